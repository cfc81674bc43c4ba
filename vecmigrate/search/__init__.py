"""Search in two stages: the collection's best candidates, ranked by their true vectors."""

from vecmigrate.search.options import Hit as Hit
from vecmigrate.search.options import Ranking as Ranking
from vecmigrate.search.options import SearchOptions as SearchOptions
from vecmigrate.search.options import SearchResult as SearchResult
from vecmigrate.search.options import Unranked as Unranked
from vecmigrate.search.prewarm import Prewarmed as Prewarmed
from vecmigrate.search.prewarm import prewarm as prewarm
from vecmigrate.search.searcher import Searcher as Searcher
from vecmigrate.search.searcher import open_searcher as open_searcher
