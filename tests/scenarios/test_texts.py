from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from seqmem.core.data import Options, TextSource
from seqmem.core.errors import UsageError
from seqmem.plugin.specs import TextSpec
from seqmem_plugins.texts import dataset, file
from seqmem_plugins.texts.documents import source

ROWS = [f"document {number}" for number in range(60)]

SAID = "In town {} the person {} said: “It rained.” Nobody was surprised."
PROSE = "\n\n".join(" ".join(SAID.format(town, who) for who in range(town % 5 + 1)) for town in range(40))


def spec(plugin: Any) -> TextSpec:
    (only,) = plugin.seqmem_text()
    assert isinstance(only, TextSpec) and issubclass(only.options, Options)
    return only


def opened(
    path: Path | str, needed: tuple[int, int] = (5, 1), *, seed: int = 0, **options: Any
) -> TextSource:
    own = spec(file)
    return own.open(own.options(path=str(path), **options), seed, needed)


def refused(path: Path | str, needed: tuple[int, int] = (5, 1), **options: Any) -> str:
    """The one line a user reads."""
    with pytest.raises(UsageError) as caught:
        opened(path, needed, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def write_rows(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


PLAIN = [(row, "") for row in ROWS]
"""The rows without domains."""


# ---- which document is which


def test_every_tenth_document_is_held_out() -> None:
    text = source(PLAIN, (54, 6), "text")
    assert [text.heldout(index) for index in range(6)] == ROWS[9::10]
    assert [text.train(index) for index in range(54)] == [row for row in ROWS if row not in ROWS[9::10]]


@pytest.mark.parametrize("needed", [(1, 0), (9, 0), (10, 0), (0, 1), (0, 2), (9, 1), (54, 6)])
def test_reads_no_further_than_needed(needed: tuple[int, int]) -> None:
    taken = []

    def documents() -> Any:
        for row in ROWS:
            taken.append(row)
            yield row, ""

    text = source(documents(), needed, "text")
    train, heldout = needed
    whole = source(PLAIN, (54, 6), "text")
    assert [text.train(index) for index in range(train)] == [whole.train(index) for index in range(train)]
    assert [text.heldout(index) for index in range(heldout)] == [
        whole.heldout(index) for index in range(heldout)
    ]
    assert len(taken) <= max(train + train // 9, 10 * heldout)
    assert taken[-1] in (text.train(train - 1) if train else "", text.heldout(heldout - 1) if heldout else "")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_documents_are_visited_domain_by_domain_where_a_field_names_it(suffix: str, tmp_path: Path) -> None:
    domains = ["news", "code", "law"]
    rows = [
        {"text": f"row {n}", "meta": {"set": domains[n * n % 3]}} for n in range(60)
    ]  # news, code, code, ...
    path = write_rows(tmp_path / f"rows{suffix}", rows)
    mixed = opened(path, (27, 3))
    assert [mixed.train(n) for n in range(3)] == ["row 0", "row 1", "row 2"]
    text = opened(path, (27, 3), domain="meta.set")
    order = [f"row {n}" for n in range(30) if n % 3 == 0] + [f"row {n}" for n in range(30) if n % 3]
    assert [text.heldout(n) for n in range(3)] == order[9::10]
    assert [text.train(n) for n in range(27)] == [row for row in order if row not in order[9::10]]


def test_a_domain_that_is_no_field_is_refused_with_the_fields_there_are(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".parquet"):
        path = write_rows(tmp_path / f"rows{suffix}", [{"text": "a", "kind": "b"}])
        assert (
            "has no field 'set'; its fields are: text, kind. Choose one with --set text.domain=NAME"
            in refused(path, domain="set")
        )
    plain = tmp_path / "a.txt"
    plain.write_text("Some text.")
    assert "is plain text and has no field 'set' for a domain" in refused(plain, domain="set")


def test_a_document_that_was_not_asked_for() -> None:
    text = source(PLAIN, (5, 1), "text")
    with pytest.raises(IndexError, match="document 9 of text was not asked for"):
        text.train(9)
    with pytest.raises(IndexError):
        text.heldout(-1)


# ---- plain text


def test_the_seed_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text(PROSE)
    first, second = opened(path, (20, 2), chunk_chars=300), opened(path, (20, 2), seed=7, chunk_chars=300)
    assert [first.train(index) for index in range(20)] == [second.train(index) for index in range(20)]
    assert [first.heldout(index) for index in range(2)] == [second.heldout(index) for index in range(2)]


@pytest.mark.parametrize("size", [50, 97, 250, 600, 100_000])
def test_cut_keeps_every_word_in_order(size: int) -> None:
    documents = list(file.cut(PROSE, size))
    assert " ".join(documents).split() == PROSE.split()
    assert all(size // 4 <= len(document) <= size for document in documents) or len(documents) == 1


def cut(text: str, size: int) -> list[str]:
    """Documents of a plain text without white space at their ends, as they are trained unless asked otherwise."""
    return [document.strip() for document in file.cut(text, size)]


def test_cut_prefers_paragraphs_then_sentences_then_words() -> None:
    paragraphs = [f"Paragraph {number}. " + "It goes on for a while. " * 5 for number in range(9)]
    for document in cut("\n\n".join(paragraphs), 300):
        assert document.startswith("Paragraph") and document.endswith("while.")
    one = "A sentence of some length, “quoted” at its end.’ " * 30
    assert all(document.endswith("end.’") for document in cut(one, 200))
    verse = "\n".join("a line of verse without any stop" for _ in range(50))
    assert all(document.endswith("stop") and document.startswith("a line") for document in cut(verse, 200))
    words = "word " * 300
    assert {word for document in file.cut(words, 101) for word in document.split()} == {"word"}
    assert [len(document) for document in file.cut("x" * 250, 100)] == [100, 100, 50]
    assert all(document.endswith("。") for document in cut("昔々ある所にお爺さんがいました。" * 40, 60))


def test_line_ends_and_a_byte_order_mark_are_not_text(tmp_path: Path) -> None:
    unix, windows = tmp_path / "unix.txt", tmp_path / "windows.txt"
    unix.write_bytes(PROSE.encode())
    windows.write_bytes(b"\xef\xbb\xbf" + PROSE.replace("\n", "\r\n").encode())
    first, second = opened(unix, (9, 1)), opened(windows, (9, 1))
    assert [first.train(index) for index in range(9)] == [second.train(index) for index in range(9)]


# ---- rows


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_row_is_a_document(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": row, "meta": {"note": f"note {row}"}, "id": 1} for row in ROWS]
    rows.insert(3, {"text": " \n", "meta": {"note": ""}, "id": 2})
    rows.insert(5, {"text": None, "meta": {"note": None}, "id": 2})
    path = write_rows(tmp_path / f"rows{suffix}", rows)
    text = opened(path, (54, 6))
    assert [text.train(index) for index in range(10)] == [*ROWS[:9], ROWS[10]]
    assert text.heldout(5) == ROWS[59]
    assert opened(path, field="meta.note").train(0) == "note document 0"


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028two\x85three"}] * 9 + [{"text": "held out"}]
    assert opened(write_rows(tmp_path / "rows.jsonl", rows)).train(0) == "one\u2028two\x85three"


def test_many_row_groups_and_other_string_types(tmp_path: Path) -> None:
    many = [f"document {number}" for number in range(2000)]
    table = pa.table({"text": pa.array(many, pa.large_string()).dictionary_encode()})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    text = opened(tmp_path / "rows.parquet", (1800, 200))
    assert (text.train(1799), text.heldout(199)) == (many[1998], many[1999])


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write_rows(tmp_path / "b.jsonl", [{"text": row} for row in ROWS[20:40]])
    write_rows(tmp_path / "a.parquet", [{"text": row} for row in ROWS[:20]])
    (tmp_path / "deeper").mkdir()
    write_rows(tmp_path / "deeper" / "c.JSONL", [{"text": row} for row in ROWS[40:]])
    (tmp_path / "README.md").write_text("not text to train on")
    (tmp_path / ".hidden.txt").write_text("neither is this")
    text = opened(tmp_path, (54, 6))
    assert [text.heldout(index) for index in range(6)] == ROWS[9::10]
    assert "60 documents, but 61 are needed (55 for training" in refused(tmp_path, (55, 0))


# ---- files that cannot work


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere.txt")
    assert "holds no file ending in .txt, .jsonl, .parquet" in refused(tmp_path)
    (tmp_path / "table.csv").write_text("a,b")
    assert "is none of .txt, .jsonl, .parquet" in refused(tmp_path / "table.csv")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "is empty" in refused(tmp_path / name)


def test_a_file_of_white_space(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\n ")
    assert "holds no text" in refused(tmp_path / "a.txt")
    write_rows(tmp_path / "a.jsonl", [{"text": ""}])
    assert "holds no text" in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_file_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("fünf ".encode() + "na\xefve".encode("latin1"))
    line = refused(tmp_path / name)
    assert "byte 0xef at offset 8" in line and "iconv" in line
    (tmp_path / name).write_bytes("text".encode("utf-16"))
    hint = "is UTF-16, not UTF-8; convert it, e.g. with: iconv -f utf-16 -t utf-8 OLD > NEW"
    assert refused(tmp_path / name).endswith(hint)


def test_a_text_that_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One sentence.")
    line = refused(tmp_path / "a.txt", (20, 3))
    assert "too short: 1 document, but 30 are needed" in line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "b"', "line 2 is not JSON"),
        ('["b"]', "line 2 is not a JSON object"),
        ('{"body": "b", "meta": {"set": "c"}}', "line 2 has no field 'text'; its fields are: body, meta.set"),
        ('{"text": ["b"]}', "line 2 holds list, not text"),
        ('{"text": "\\ud800"}', "line 2 holds half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_work(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + line + "\n")
    assert said in refused(tmp_path / "a.jsonl")


def test_parquet_that_cannot_work(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.parquet", [{"body": "b", "n": 1}] * 20)
    assert "has no field 'text'; its fields are: body, n." in refused(path)
    assert "holds int, not text" in refused(path, field="n")
    assert "has no field 'body.part'" in refused(path, field="body.part")
    path.write_bytes(path.read_bytes()[:-10])
    assert "not a readable Parquet file" in refused(path)


# ---- fingerprints


def test_fingerprint_changes_with_the_content_and_not_with_the_place(tmp_path: Path) -> None:
    def of(path: Path) -> str:
        return file.fingerprint(file.FileOptions(path=str(path)))

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "a.txt").write_text(PROSE)
        (tmp_path / folder / "b.txt").write_text(PROSE)
    assert of(tmp_path / "one" / "a.txt") == of(tmp_path / "two" / "b.txt")
    assert of(tmp_path / "one") == of(tmp_path / "two")
    (tmp_path / "two" / "b.txt").write_text(PROSE + "!")
    assert of(tmp_path / "one") != of(tmp_path / "two")
    (tmp_path / "two" / "b.txt").write_text(PROSE)
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    assert of(tmp_path / "one") != of(tmp_path / "two")
    with pytest.raises(UsageError, match="does not exist"):
        of(tmp_path / "nowhere")


# ---- the datasets library


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 60 rows, a cache of its own, and no attempt to go online."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "table"
    folder.mkdir()
    write_rows(folder / "train.parquet", [{"text": row, "meta": {"note": f"note {row}"}} for row in ROWS])
    return folder


def loaded(id: Path | str, needed: tuple[int, int] = (5, 1), **options: Any) -> TextSource:
    own = spec(dataset)
    return own.open(own.options(id=str(id), **options), 0, needed)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_dataset(table: Path, streaming: bool, capfd: pytest.CaptureFixture[str]) -> None:
    text = loaded(table, (54, 6), streaming=streaming)
    assert [text.heldout(index) for index in range(6)] == ROWS[9::10]
    assert loaded(table, field="meta.note", streaming=streaming).train(0) == "note document 0"
    assert capfd.readouterr() == ("", "")


def test_a_builder_with_files(table: Path) -> None:
    assert loaded("parquet", data_files=str(table / "*.parquet")).train(1) == ROWS[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "test"}, "Available splits: ['train']"),
        ({"config": "big"}, "BuilderConfig 'big' not found"),
        ({"field": "body"}, "has no field 'body'; its fields are: text, meta.note"),
        ({"field": "meta"}, "holds dict, not text"),
    ],
)
def test_a_dataset_that_cannot_work(table: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(table, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_dataset_that_is_too_short_or_away(table: Path) -> None:
    with pytest.raises(UsageError, match="60 documents, but 70 are needed"):
        loaded(table, (5, 7))
    with pytest.raises(UsageError, match="cannot be read"):
        loaded(table / "nowhere")
    with pytest.raises(UsageError, match="cannot be read"):
        loaded("some/dataset")
    with pytest.raises(UsageError, match="no file matches"):
        loaded("json", data_files=str(table / "*.json"))


def test_streaming_reads_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    read = 0

    def endless(*arguments: Any, **settings: Any) -> Any:
        nonlocal read
        assert arguments == ("some/dataset", None)
        assert settings == {"split": "train", "revision": "v1", "streaming": True}
        while True:
            read += 1
            yield {"text": f"document {read}"}

    monkeypatch.setattr(datasets, "load_dataset", endless)
    assert loaded("some/dataset", (3, 1), revision="v1").heldout(0) == "document 10"
    assert read == 10


def test_fingerprint_of_a_dataset(table: Path) -> None:
    def of(**options: Any) -> str:
        return dataset.fingerprint(dataset.DatasetOptions(**{"id": "some/dataset", **options}))

    assert of() == of(field="body") == of(streaming=False)
    assert len({of(), of(split="test"), of(config="big"), of(revision="v1"), of(id="other")}) == 5
    before, files = of(id=str(table)), of(id="json", data_files=str(table / "*"))
    write_rows(table / "train.parquet", [{"text": "changed"}])
    assert of(id=str(table)) != before and of(id="json", data_files=str(table / "*")) != files


@pytest.mark.parametrize("name", ["file", "dataset"])
def test_plugins_are_light_and_declare_themselves(name: str) -> None:
    plugin = {"file": file, "dataset": dataset}[name]
    assert plugin.seqmem_api == ">=1,<2" and spec(plugin).name == name
    assert all(field.description for field in spec(plugin).options.model_fields.values())
    code = (
        f"import sys, seqmem_plugins.texts.{name}\n"
        "print(sorted({'torch', 'datasets', 'pyarrow', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_opening_a_file_imports_no_torch(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.parquet", [{"text": row} for row in ROWS])
    code = (
        "import sys; from seqmem_plugins.texts.file import FileOptions, open_text\n"
        f"print(open_text(FileOptions(path={str(path)!r}), 0, (5, 1)).train(0), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "document 0 False", done.stderr


# ---- data in the wild


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named_with_the_command_that_converts_them(tmp_path: Path, encoding: str) -> None:
    path, fixed = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(PROSE.encode(encoding))
    command = refused(path).partition("e.g. with: ")[2]
    assert command == f"iconv -f {encoding.replace('-le', 'le').replace('-be', 'be')} -t utf-8 OLD > NEW"
    words = command.replace("OLD", str(path)).replace("NEW", str(fixed))
    subprocess.run(words, shell=True, check=True)
    assert opened(fixed, (9, 1)).train(0) == PROSE.split("\n\n")[0] or PROSE.startswith(
        opened(fixed, (9, 1)).train(0)
    )


def test_a_stray_null_byte_is_no_other_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Some text, long enough.\0 And more of it.")
    assert refused(tmp_path / "a.txt").endswith("holds a null byte at offset 23, which is not text")


def test_what_equals_a_held_out_document_is_not_trained() -> None:
    rows = [*ROWS]
    rows[3] = rows[20] = rows[9]  # the first held-out one, before and after it
    rows[30] = rows[31]  # twice in training is as it is
    text = source([(row, "") for row in rows], (45, 5), "text 'a'")
    trained = [text.train(index) for index in range(45)]
    assert not {text.heldout(index) for index in range(5)} & set(trained)
    assert trained == [row for place, row in enumerate(rows) if place % 10 != 9 and row != rows[9]][:45]
    assert trained.count(rows[31]) == 2
    assert text.note == "training documents of text 'a' that equal held-out ones and are not trained: 2"
    assert source(PLAIN, (54, 6), "text").note == ""


def test_a_text_that_is_too_short_without_the_duplicates_says_so() -> None:
    rows = [(row, "") for row in [*ROWS[:9], ROWS[0]]]
    with pytest.raises(UsageError) as caught:
        source(rows, (9, 1), "text")
    assert str(caught.value).endswith(
        "10 documents, but 11 are needed (9 for training, and every 10th is held out, and 1 that equal held-out ones "
        "are not trained); give more text or train less"
    )


def test_domains_stay_together_where_duplicates_are_replaced() -> None:
    rows = [(f"{row} of {place % 2}", f"domain {place % 2}") for place, row in enumerate(ROWS)]
    rows[1] = (rows[18][0], "domain 1")
    text = source(rows, (40, 4), "text")
    trained = [text.train(index) for index in range(40)]
    held = {text.heldout(index) for index in range(4)}
    assert not held & set(trained) and len(set(trained)) == 40
    assert [row[-1] for row in trained] == sorted(row[-1] for row in trained)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_white_space_at_the_ends_of_a_document_is_trained_where_asked(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"\n {row} \n"} for row in ROWS[:10]]
    rows.insert(2, {"text": " \n"})
    path = write_rows(tmp_path / f"rows{suffix}", rows)
    assert opened(path).train(2) == "document 2"
    assert opened(path, strip=False).train(2) == "\n document 2 \n"


def test_plain_text_is_trained_whole_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PROSE)
    text = opened(path, (20, 2), chunk_chars=300, strip=False)
    read = [text.heldout(n // 10) if n % 10 == 9 else text.train(n - n // 10) for n in range(20)]
    assert PROSE.startswith("".join(read))


def test_the_default_of_strip_stands_in_no_recipe() -> None:
    for plugin, needed in ((file, {"path": "a.txt"}), (dataset, {"id": "a"})):
        options = spec(plugin).options
        assert "strip" not in options(**needed).model_dump(mode="json")
        assert options(**needed, strip=False).model_dump(mode="json")["strip"] is False
        assert options(**options(**needed).model_dump(mode="json")) == options(**needed)
