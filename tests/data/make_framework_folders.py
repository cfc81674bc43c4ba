"""Writes framework_folders.zip: 2,010 documents as LangChain and as LlamaIndex save them.

pip install langchain-community faiss-cpu llama-index-core llama-index-vector-stores-faiss
python tests/data/make_framework_folders.py
"""

import datetime
import tempfile
import uuid
import zipfile
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.vector_stores.faiss import FaissVectorStore

COUNT, DIMENSION = 2010, 8
OUT = Path(__file__).parent / "framework_folders.zip"


def vectors() -> np.ndarray:
    return np.random.default_rng(8).standard_normal((COUNT, DIMENSION)).astype("float32")


def name(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def langchain(folder: Path) -> None:
    store = FAISS(
        DeterministicFakeEmbedding(size=DIMENSION),
        faiss.IndexFlatL2(DIMENSION),
        InMemoryDocstore(),
        {},
    )
    added = datetime.date(2026, 11, 25)
    texts = [f"text {n}" for n in range(COUNT)]
    store.add_embeddings(
        zip(texts, vectors().tolist(), strict=True),
        metadatas=[{"page": n, "tags": ["a", n % 3], "added": added} for n in range(COUNT)],
        ids=[name(n) for n in range(COUNT)],
    )
    store.delete([name(n) for n in range(5)])
    assert isinstance(store.docstore.search(name(7)), Document)
    store.save_local(str(folder))


def llamaindex(folder: Path) -> None:
    nodes = [
        TextNode(
            id_=name(n),
            text=f"text {n}",
            metadata={"page": n},
            embedding=row,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {n // 10}")},
        )
        for n, row in enumerate(vectors().tolist())
    ]
    store = FaissVectorStore(faiss_index=faiss.IndexFlatL2(DIMENSION))
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex(nodes, storage_context=context, embed_model=MockEmbedding(DIMENSION))
    context.persist(str(folder))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as made,
        zipfile.ZipFile(OUT, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        langchain(Path(made) / "langchain")
        llamaindex(Path(made) / "llamaindex")
        for path in sorted(Path(made).rglob("*.*")):
            archive.write(path, path.relative_to(made))
        packages = ("langchain-community", "langchain-core", "llama-index-core")
        archive.writestr("made_with.txt", "\n".join(f"{p} {version(p)}" for p in packages))


if __name__ == "__main__":
    main()
