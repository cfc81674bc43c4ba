"""What writes parts of the docs from the code and from the tests, and what builds the site."""
