"""`attnlab init --data`: what it writes for each kind of file validates and trains."""

from __future__ import annotations

import csv
import io
import json
from random import Random

import pytest
import yaml

from pipelines.actions.recognise.readings import readings
from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.runs.prepare import load_data
from tests import guide

TINY = [
    *("model.vocab_size=300", "model.config.hidden_size=16", "model.config.num_hidden_layers=1"),
    *("model.config.num_attention_heads=2", "model.config.intermediate_size=16", "max_steps=1"),
]
WORDS = ["river", "stone", "bread", "window", "garden", "market", "silver", "letter", "winter", "harbour"]


def sentence(random, length):
    return " ".join(random.choices(WORDS, k=length))


def question(random, *, starts, as_list=False):
    context = sentence(random, 12)
    answer = context.split()[4]
    row = {"question": f"which {sentence(random, 2)}?", "context": context}
    if as_list:
        return row | {"answers": [answer]}
    start = {"answer_start": [context.index(answer)]} if starts else {}
    return row | {"answers": {"text": [answer]} | start}


def row_of(kind, random, place):
    words = sentence(random, 6).split()
    tags = ["B-PLACE" if word == "harbour" else "O" for word in words]
    texts = {
        "ner": lambda: {"words": [*words, "harbour"], "entities": [*tags, "B-PLACE"]},
        "qa": lambda: question(random, starts=True),
        "answers": lambda: question(random, starts=False, as_list=True),
        "classes": lambda: {"Remark": sentence(random, 5), "verdict": ["kind", "cruel", "plain"][place % 3]},
        "pairs": lambda: {
            "premise": sentence(random, 5),
            "hypothesis": sentence(random, 4),
            "label": place % 2,
        },
        "several": lambda: {"text": sentence(random, 5), "topics": [["a", "b"], ["b"], ["c"]][place % 3]},
        "number": lambda: {"text": sentence(random, 5), "score": random.random()},
        "languages": lambda: {"en": sentence(random, 5), "fr": sentence(random, 6)},
        "nested": lambda: {"translation": {"en": sentence(random, 5), "ro": sentence(random, 5)}},
        "sums": lambda: {"id": place, "article": sentence(random, 30), "highlights": sentence(random, 4)},
        "text": lambda: {"content": sentence(random, 12)},
    }
    return texts[kind]()


def rows(kind, count=30):
    random = Random(kind)
    return [row_of(kind, random, place) for place in range(count)]


def write(folder, kind, suffix):
    file, found = folder / f"data.{suffix}", rows(kind)
    if suffix in ("csv", "tsv"):
        with open(file, "w", newline="", encoding="utf-8") as to:
            writer = csv.DictWriter(to, found[0], delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(found)
    elif suffix == "txt":
        file.write_text("\n".join(row["content"] for row in found))
    elif suffix == "conll":
        blocks = ("\n".join(map(" ".join, zip(*row.values()))) for row in found)
        file.write_text("\n\n".join(blocks) + "\n")
    else:
        file.write_text("\n".join(map(json.dumps, found)))
    return file.name


CASES = [
    ("ner", "conll", "ner"),
    ("ner", "jsonl", "ner"),
    ("qa", "jsonl", "question_answering"),
    ("answers", "jsonl", "generative_question_answering"),
    ("classes", "csv", "text_classification"),
    ("pairs", "tsv", "text_classification"),
    ("several", "jsonl", "text_classification"),
    ("number", "csv", "text_classification"),
    ("languages", "tsv", "translation"),
    ("nested", "jsonl", "translation"),
    ("sums", "csv", "summarization"),
    ("text", "txt", "language_modelling"),
    ("text", "jsonl", "language_modelling"),
]


@pytest.mark.parametrize(("kind", "suffix", "task"), CASES)
def test_what_it_writes_trains(kind, suffix, task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--data", write(tmp_path, kind, suffix)]) == 0
    text = capsys.readouterr().out
    (tmp_path / "my.yaml").write_text(text)
    assert yaml.safe_load(text)["task"]["name"] == task
    assert f"# - {task}: " in text
    assert main(["validate", "my.yaml"]) == 0
    assert main(["train", "my.yaml", *TINY, "--out", "r"]) == 0


@pytest.mark.parametrize(
    ("kind", "columns", "options"),
    [
        ("ner", {"tokens": "words", "tags": "entities"}, {}),
        ("pairs", {"text": "premise", "text_pair": "hypothesis", "label": "label"}, {}),
        ("several", {"text": "text", "label": "topics"}, {"kind": "multi_label"}),
        ("number", {"text": "text", "label": "score"}, {"kind": "regression"}),
        ("nested", {"source": "translation.en", "target": "translation.ro"}, {"target_language": "ro"}),
        ("sums", {"source": "article", "target": "highlights"}, {}),
    ],
)
def test_columns_and_options_are_read_from_names_and_values(kind, columns, options):
    [first, *_] = readings(rows(kind))
    assert (dict(first.columns), dict(first.options)) == (columns, options)


def test_a_summary_is_known_by_its_name_in_german_too():
    lines = [
        {
            "Titel": f"Nr. {n} ist da",
            "Bericht": f"Es war Tag {n} , und alle kamen . " * 6,
            "Zusammenfassung": f"Tag {n}",
        }
        for n in range(9)
    ]
    assert readings(lines)[0].columns == {"source": "Bericht", "target": "Zusammenfassung"}


def test_questions_without_answers_make_the_task_unanswerable():
    none = {"question": "why?", "context": "nobody knows it", "answers": {"text": [], "answer_start": []}}
    assert readings([*rows("qa"), none])[0].options == {"unanswerable": True}


def test_tags_that_are_numbers_get_names_to_change():
    found = [{"tokens": ["a", "b", "c"], "ner_tags": [0, 1, 4]}] * 3
    assert readings(found)[0].options == {"labels": ["O", "B-1", "I-1", "B-2", "I-2"]}


def test_files_are_splits_by_their_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a-test.jsonl", "a-dev.jsonl", "a-train.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows("classes"))))
    assert main(["init", "--data", "a-test.jsonl", "a-dev.jsonl", "a-train.jsonl"]) == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    named = {split: data[split] for split in ("train", "validation", "test")}
    assert named == {"train": "a-train.jsonl", "validation": "a-dev.jsonl", "test": "a-test.jsonl"}
    assert data["split"] is None


def test_files_of_two_languages_are_parallel_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for language in ("en", "nl"):
        (tmp_path / f"talk.{language}").write_text("\n".join(row["content"] for row in rows("text")))
    assert main(["init", "--data", "talk.en", "talk.nl"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["data"]["train"] == {"source": "talk.en", "target": "talk.nl"}
    assert values["task"]["target_language"] == "nl"


def test_an_ablation_of_the_data_is_valid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--ablation", "--data", write(tmp_path, "classes", "csv")]) == 0
    text = capsys.readouterr().out
    (tmp_path / "ablation.yaml").write_text(text)
    values = yaml.safe_load(text)
    assert values["primary"] == {"text_classification": "accuracy"}
    assert values["margin"].keys() == {"accuracy"}
    assert main(["validate", "ablation.yaml"]) == 0


def test_rows_that_no_task_fits_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n.jsonl").write_text('{"width": 3}\n{"width": 4}\n')
    assert main(["init", "--data", "n.jsonl"]) == 2
    assert "its columns do not fit any task (got width)" in capsys.readouterr().err


def csv_of(header, found, *, delimiter=",", encoding="utf-8"):
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows([header, *found] if header else found)
    return sink.getvalue().encode(encoding)


def conll(count=30):
    found = [row_of("ner", Random(place), place) for place in range(count)]
    return "\r\n".join("".join(f"{w}\t{t}\r\n" for w, t in zip(*row.values())) for row in found).encode()


DRAWN = Random(3)
PLACES = ["Haus", "Boot", "Weg", "Tor", "Dach"]
TEXTS = [f"Das {PLACES[place % 5]} Nummer {place} ist schön." for place in range(40)]
TONES = ["gut", "schlecht"] * 20
HOURS = [f"2024-02-{1 + hour // 24:02d} {hour % 24:02d}:00:00" for hour in range(400)]
POSTS = [{"post": {"body": text}, "meta": {"label": tone}} for text, tone in zip(TEXTS, TONES)]
PRINTED = [(str(row["words"]), str(row["entities"])) for row in rows("ner")]
ENGLISH = [f"Number {place} is fine indeed." for place in range(40)]
LONG = [(f"{text} " * 5, f"Zum {PLACES[place % 5]}.") for place, text in enumerate(TEXTS)]
ASKED = [(f"Welche Nummer ist schön {place}?", text, str(place)) for place, text in enumerate(TEXTS)]
OTHER_FILES = [
    # (name, content, the task, its columns, other settings of data)
    (
        "a.csv",
        csv_of(["Text", "Stimmung"], zip(TEXTS, TONES), delimiter=";", encoding="cp1252"),
        "text_classification",
        {"text": "Text", "label": "Stimmung"},
        {"encoding": "cp1252"},
    ),
    (
        "b.csv",
        csv_of(["Satz1", "Satz2", "gold_label"], zip(TEXTS, TEXTS[::-1], TONES)),
        "text_classification",
        {"text": "Satz1", "text_pair": "Satz2", "label": "gold_label"},
        {},
    ),
    (
        "c.jsonl",
        "\n".join(map(json.dumps, POSTS)).encode(),
        "text_classification",
        {"text": "post.body", "label": "meta.label"},
        {},
    ),
    ("d.tsv", conll(), "ner", {}, {"format": "conll"}),
    ("e.csv", csv_of(["tokens", "ner_tags"], PRINTED), "ner", {}, {}),
    (
        "f.tsv",
        csv_of(None, zip(TEXTS, ENGLISH), delimiter="\t"),
        "translation",
        {"source": "column_1", "target": "column_2"},
        {},
    ),
    (
        "g.csv",
        csv_of(["Artikel", "Zusammenfassung"], LONG),
        "summarization",
        {"source": "Artikel", "target": "Zusammenfassung"},
        {},
    ),
    (
        "h.csv",
        csv_of(["Frage", "Kontext", "Antwort"], ASKED),
        "generative_question_answering",
        {"question": "Frage", "context": "Kontext", "answers": "Antwort"},
        {},
    ),
    ("i.csv", csv_of(["Datum", "Beitrag"], zip(HOURS, TEXTS)), "language_modelling", {"text": "Beitrag"}, {}),
    (
        "j.csv",
        csv_of(["when", "load", "heat"], [(when, DRAWN.random(), DRAWN.random()) for when in HOURS]),
        "forecasting",
        {"time": "when"},
        {"train": "j.csv[:70%]", "validation": "j.csv[70%:85%]"},
    ),
]


@pytest.mark.parametrize(("name", "content", "task", "columns", "more"), OTHER_FILES)
def test_files_as_people_have_them_become_runs(
    name, content, task, columns, more, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert main(["init", "--data", name]) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    values = yaml.safe_load(text)
    assert (values["task"]["name"], values["data"]["columns"]) == (task, columns)
    assert more.items() <= values["data"].items()
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    assert main(["validate", "my.yaml"]) == 0, capsys.readouterr().err
    load_data(load_run(["my.yaml"]))


@pytest.mark.parametrize("ablation", [False, True])
def test_few_rows_get_epochs_in_which_a_model_from_scratch_learns(ablation, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, count in (("few", 40), ("many", 12_000)):
        found = [(f"Nummer {place} ist {TONES[place % 2]}", TONES[place % 2]) for place in range(count)]
        (tmp_path / f"{name}.csv").write_bytes(csv_of(["text", "label"], found))
    epochs = {}
    for name in ("few", "many"):
        assert main(["init", "--data", f"{name}.csv", *["--ablation"] * ablation]) == 0
        values = yaml.safe_load(capsys.readouterr().out)
        epochs[name] = (values["cells"]["text_classification"] if ablation else values)["num_epochs"]
    assert epochs == {"few": 40, "many": 3}


SPANS = [
    {"text": "Mira war in Oslo.", "label": [[0, 4, "PER"], [12, 16, "LOC"]]},
    {"text": "Nichts.", "label": []},
]
A_WORD_A_ROW = [("1", "Mira", "B-PER"), ("", "schläft", "O"), ("2", "Oslo", "B-LOC")]
NOTES = [(text, f"{place},5") for place, text in enumerate(TEXTS)]
REFUSED = [
    ("a.jsonl", "\n".join(map(json.dumps, SPANS)).encode(), "label says at which characters entities stand"),
    ("b.csv", csv_of(["Satz", "Wort", "Tag"], A_WORD_A_ROW), "Tag holds the tag of one word in each row"),
    (
        "c.csv",
        csv_of(["satz", "tags"], [("Mira schläft", "B-PER O"), ("Es regnet", "O O")] * 4),
        "tags holds the tags of a sentence as one text",
    ),
    ("d.csv", csv_of(["text", "label"], [(text, "gut") for text in TEXTS]), "label has one value (gut)"),
    ("e.csv", csv_of(["Text", "Note"], NOTES, delimiter=";"), "(write 0.5)"),
    ("f.xlsx", b"PK\x03\x04...", "is a zip archive"),
    ("g.arrow", b"ARROW1\0\0...", "is an Arrow file"),
    ("h.json", json.dumps({"text": TEXTS, "label": TONES}).encode(), "write a list of objects, one per row"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_what_no_task_reads_is_refused_with_what_to_write(name, content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert main(["init", "--data", name]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_told_from_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bilder" / "hund").mkdir(parents=True)
    assert main(["init", "--data", "bilder"]) == 2
    assert "set data.name to it, with the task image_classification" in capsys.readouterr().err


def test_the_lines_of_the_guide_turn_spans_into_words(tmp_path, monkeypatch, capsys):
    [lines] = [block.text for block in guide.blocks("data.md") if block.file == "mine/spans.py"]
    (tmp_path / "mine").mkdir()
    wrong = {"text": "Oslobahn", "label": [[0, 4, "LOC"]]}
    (tmp_path / "mine" / "spans.jsonl").write_text("\n".join(map(json.dumps, [*SPANS, wrong])))
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    found = [json.loads(line) for line in (tmp_path / "mine" / "words.jsonl").read_text().splitlines()]
    assert found[0] == {
        "tokens": ["Mira", "war", "in", "Oslo", "."],
        "ner_tags": ["B-PER", "O", "O", "B-LOC", "O"],
    }
    assert found[1]["ner_tags"] == ["O", "O"]
    assert capsys.readouterr().out == "row 3: 'Oslo' is no whole words\n"


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"architectures": ["Gpt9LMHeadModel"]}, "decoder"),
        ({"is_encoder_decoder": True}, "encoder_decoder"),
        ({"architectures": ["NewForMaskedLM"]}, "encoder"),
    ],
)
def test_the_family_of_a_folder_comes_from_its_config(config, family, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    assert main(["init", "--model", "mine"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["model"]["name"], values["model"]["family"]) == ("mine", family)
    assert values["learning_rate"] == 5e-5
