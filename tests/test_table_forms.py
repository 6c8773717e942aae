"""Tables as spreadsheets and competitions give them: what is taken, said and refused."""

from __future__ import annotations

import json
import os
import re
from collections import Counter

import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.data.readers import locate
from tlkit.data.readers.open import open_source
from tlkit.errors import DataError, SpecError
from tlkit.spec.read import make_spec, merge
from tlkit.tasks.registry import targets_of

FILES = ("a.png", "b.png", "c.png", "d.png")
TEXT = "image,label\na.png,Äpfel\nb.png,Birnen\nc.png,Äpfel\nd.png,Birnen\n"


@pytest.fixture
def home(tmp_path):
    """A folder with four empty files: listing looks at names only."""
    return touch(tmp_path, *FILES)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(folder, content, name="labels.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def listed(path, *settings):
    """List a table with options as they are typed after --set."""
    spec = make_spec(merge({"data": path}, list(settings)))
    return open_source(path, targets=targets_of(spec))


def labels(source, part="train"):
    return {example.id: example.label for example in source.parts[part]}


def said(source):
    return " / ".join(source.notes)


def refused(path, *settings):
    with pytest.raises((DataError, SpecError)) as caught:
        listed(path, *settings)
    return str(caught.value)


FLAGS = "image,scab,rust\na.png,1,0\nb.png,0,1\nc.png,1,0\nd.png,0,1\n"
SEVERAL = "task=multilabel"
FOUR = {"a.png": "Äpfel", "b.png": "Birnen", "c.png": "Äpfel", "d.png": "Birnen"}


# Encoding and separator


@pytest.mark.parametrize(
    ("content", "name", "note"),
    [
        (TEXT.encode(), "labels.csv", None),
        (TEXT.encode("utf-8-sig"), "labels.csv", None),
        (TEXT.replace("\n", "\r\n").encode(), "LABELS.CSV", None),
        (TEXT.replace("\n", "\r").encode(), "labels.csv", None),
        (TEXT.replace("\n", "\n\n").encode(), "labels.csv", None),
        ((TEXT + ",\n , \n").encode(), "labels.csv", None),
        (TEXT.replace(",", " , ").encode(), "labels.csv", None),
        (TEXT.replace(",", ', "').replace("\n", '"\n').encode(), "labels.csv", None),
        (TEXT.replace("\n", ",\n").encode(), "labels.csv", None),
        (TEXT.replace(",", "\t").encode(), "labels.tsv", None),
        (TEXT.encode(), "labels.txt", None),
        (TEXT.encode("cp1252"), "labels.csv", "not UTF-8, read as cp1252 .Windows., such as 'Äpf"),
        (TEXT.encode("utf-16"), "labels.csv", "is UTF-16 by its byte order mark"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "labels.csv", "is UTF-16 by its"),
        (TEXT.encode("utf-32"), "labels.csv", "is UTF-32 by its"),
        (TEXT.replace(",", ";").encode("utf-8-sig"), "a.csv", "separated by semicolons"),
        (TEXT.replace(",", "\t").encode("utf-16"), "a.txt", "separated by tabs"),
        (TEXT.replace(",", "|").encode(), "a.csv", "separated by bars"),
        (b"sep=;\r\n" + TEXT.replace(",", ";").encode(), "a.csv", "separated by semicolons"),
        (TEXT.replace(",", ";").replace("Äpfel", "Ä,p").encode(), "a.csv", "semicolons"),
        (TEXT.replace("image,label", "Image,LABEL").encode(), "a.csv", "column Image is taken as"),
        (
            "Split," + TEXT.replace("\n", "\ntrain,")[:-6],
            "a.csv",
            "column Split is taken as split",
        ),
        (TEXT.replace("image,label\n", "").encode(), "a.csv", "has no header; its columns are"),
        (TEXT.replace("image,label\n", "").replace(",", " ").encode(), "a.txt", "by blanks / .*no"),
        (TEXT.replace("image,label\n", "").replace(",", "\t").encode(), "a.txt", "tabs / .*no hea"),
        (TEXT.replace(",", "  ").encode(), "a.txt", "separated by blanks"),
    ],
)
def test_a_table_is_read_in_whatever_form(home, content, name, note):
    source = listed(write(home, content, name))
    expected = {
        k: v.replace("Äpfel", "Ä,p") if note == "semicolons" else v for k, v in FOUR.items()
    }
    assert labels(source) == expected
    assert source.outputs == tuple(sorted(set(expected.values())))
    if note is None:
        assert source.notes == ()
    else:
        assert re.search(note, said(source))


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (TEXT.replace(",", "#").encode(), ["table.delimiter=#"]),
        (TEXT.replace(",", "\t").encode(), ["table.delimiter=tab"]),
        (TEXT.replace(",", "  ").encode(), ["table.delimiter=blank"]),
        (TEXT.replace(",", "|").encode(), ["table.delimiter=|"]),
        (TEXT.replace("Ä", "\u0416").encode("cp1251"), ["table.encoding=cp1251"]),
        (TEXT.encode("utf-16-le"), ["table.encoding=utf-16-le"]),
    ],
)
def test_separator_and_encoding_can_be_named(home, content, settings):
    source = listed(write(home, content), *settings)
    assert list(labels(source)) == list(FILES)
    assert source.notes == ()


@pytest.mark.parametrize("bad", ["ab", "x", '"', ""])
def test_a_separator_that_is_none_is_refused(home, bad):
    with pytest.raises(SpecError, match=r"table.delimiter: separates columns. Allowed: one sign"):
        make_spec({"table": {"delimiter": bad}})


# What is refused


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"", [], "is empty"),
        (b"image,label\n", [], "has no rows below its header"),
        (b"\n\n", [], "is empty"),
        (TEXT, ["table.encoding=klingon"], "table.encoding: unknown.*Received: 'klingon'"),
        (TEXT, ["table.encoding=ascii"], "cannot be read as ascii"),
        (TEXT, ["table.delimiter=;"], 'separated otherwise: --set "table.delimiter=,"'),
        (TEXT.encode("utf-16-le"), [], "NUL bytes.*table.encoding=utf-16-le"),
        (TEXT.encode() + "e.png,Ä\n".encode("cp1252"), [], "line 6: is not UTF-8, and the rest"),
        (b"PK\3\4 rest", [], "is an Excel workbook or a ZIP archive, no CSV file; save it"),
        (b"\x81\x8d\xff,\n", [], "cannot be read as UTF-8 nor as cp1252"),
        ("image,label\na.png,x,y\n", [], "line 2: needs as many fields.*Allowed: 2. Received: 3"),
        ("image,label,split\na.png,x\n", [], "line 2: needs as many.*Allowed: 3. Received: 2"),
        ("image,label,image\na.png,x,b.png\n", [], "the column image is there 2 times"),
        ('image,label\na.png,"x\nb.png,y\n', [], "line 2: a quote that opens in this row is never"),
        ('image,label\na.png,"x\nb.png,y\nc.png,"z\n', [], "line 2: .*is not CSV|holds whole rows"),
        ('image,label\na.png,"x\nb.png,y"\nc.png,z\n', [], "line 2: label holds whole rows; a qu"),
        ('image,note,label\na.png,"two\nlines",x\nb.png,n,\n', [], "line 4: label is empty"),
        ("image,label\na.png,x\n\n\nb.png,\n", [], "line 5: label is empty"),
        ("id,dx,age\na,x,1\n", [], "Did you mean --set table.image=id --set table.label=dx.*age"),
        ("image_id,file,label\na,a.png,x\n", [], "Which of image_id, file is image. --set"),
        ("id;image_path;species\n1;a.png;x\n", [], "table.image=image_path --set table.label=spec"),
        ("image,label\na.png,x\n", ["table.image=imag"], "column imag. Did you mean 'image'"),
        ("e.png,x\nf.png,y\n", [], "The first line looks like a row: put image,label above it"),
        ("a.png,x,3\nb.png,y,4\n", [], "The first line looks like a row: put image,label above"),
        (FLAGS, [SEVERAL, "table.targets=scab, rust"], r'set "table.targets=\[scab, rust\]"'),
        ("sep=;\nimage;label\na.png;x\nb.png;\n", [], "line 4: label is empty"),
        (TEXT, ["table.encoding=hex"], "table.encoding: unknown"),
        (TEXT, ["table.folder=gone"], "table.folder: must be a folder.*Received: 'gone'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_cause(home, content, settings, message):
    assert re.search(message, refused(write(home, content), *settings))


def test_an_image_in_two_splits_is_refused_whatever_its_labels(home):
    path = write(home, "image,label,split\na.png,x,train\n./a.png,y,test\nb.png,y,train\n")
    assert "line 3: a.png stands in two splits" in refused(path)


def test_a_file_of_another_ending_is_refused(home):
    assert "is not a folder. Allowed: .*(.csv, .tsv, .txt)" not in refused(
        write(home, TEXT, "x.dat")
    )
    assert "x.dat: is not a folder. Allowed: " in refused(write(home, TEXT, "x.dat"))
    assert "(.csv, .tsv, .txt)" in refused(write(home, TEXT, "x.dat"))


def test_a_column_that_says_the_parts_by_another_name_is_pointed_out(home):
    path = write(home, "image,label,fold\na.png,x,train\nb.png,y,test\nc.png,x,train\n")
    assert "column fold seems to say the parts; only one called split is read" in said(listed(path))


# Where the images are


@pytest.mark.parametrize(
    ("there", "written", "note"),
    [
        ("sub/x1.jpg", "sub/x1.jpg", None),
        ("sub/x1.jpg", "./sub/../sub/x1.jpg", None),
        ("sub/x1.jpg", r"sub\x1.jpg", "have backslashes"),
        ("sub/x1.jpg", r"Sub\X1.JPG", "have backslashes and differ in case"),
        ("sub/x1.jpg", "sub/x1.JPG", "differ in case"),
        ("Sub/x1.JPEG", "sub/x1.jpeg", "differ in case"),
        ("sub/x1.jpg", "sub/x1", "lack the extension"),
        ("sub/x1.v2.png", "sub/x1.v2", "lack the extension"),
        ("x1.webp", "x1", "lack the extension"),
        ("images/x1.jpg", "x1.jpg", "from the folder images"),
        ("images/x1.jpg", "x1", "from the folder images / .*lack the extension"),
        ("images/train/x1.jpg", "x1", "from the folder images/train"),
        ("images/a/x1.jpg", r"a\x1.jpg", "from the folder images / .*have backslashes"),
        ("sub/u\u0308.jpg", "sub/\u00fc.jpg", "differ in case"),
    ],
)  # fmt: skip
def test_images_are_found_where_one_file_alone_is_meant(tmp_path, there, written, note):
    touch(tmp_path, there, there.replace("x1", "x2").replace("u\u0308", "x2"))
    other = written.replace("x1", "x2").replace("X1", "X2").replace("\u00fc", "x2")
    source = listed(write(tmp_path, f"image,label\n{written},a\n{other},b\n"))
    assert source.parts["train"][0].path == tmp_path / there
    assert source.parts["train"][0].id == there
    if note is None:
        assert source.notes == ()
    else:
        assert re.search(note, said(source))


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (["x.jpg", "x.png"], "image 'x' may be several files; .*Received: .*x.jpg, .*x.png"),
        (["X.jpg", "X.JPG"], "image 'x' may be several files"),
        (["part_1/x.jpg", "part_2/y.jpg"], r'--set "table.folder=\[part_1, part_2\]"'),
        (["one/x.jpg", "two/x.jpg"], "in several folders"),
        (["a/x.jpg", "b/z.jpg"], 'of 3 looked for 1 are in the folder a; .*"table.folder=a"'),
        (["masks/z.jpg"], "none of the 2 files in column image exists. .*tried .*x; beside it"),
        ([], "none of the 2 files in column image exists.*beside it lies labels.csv"),
    ],
)
def test_images_that_cannot_be_told_are_refused(tmp_path, there, message):
    touch(tmp_path, *there)
    rows = "image,label\nx,a\ny,b\n" + ("w,b\n" if "of 3" in message else "")
    assert re.search(message, refused(write(tmp_path, rows)))


def test_a_folder_that_is_not_there_is_said(tmp_path):
    path = write(tmp_path, "image,label\nimg/x.png,a\nimg/y.png,b\n")
    assert "its folder is not there" in refused(path)


def test_folders_can_be_named(tmp_path):
    touch(tmp_path, "p 1/x.jpg", "p2/y.jpg", "data/labels.csv")
    (tmp_path / "data" / "labels.csv").write_text("image,label\nx,a\ny,b\n")
    path = str(tmp_path / "data" / "labels.csv")
    source = listed(path, "table.folder=[../p 1, ../p2]")
    assert labels(source) == {"../p 1/x.jpg": "a", "../p2/y.jpg": "b"}
    one = listed(path, "table.folder=../p2")
    assert "1 of the 2 files in column image do not exist" in said(one)


def test_the_same_name_in_two_named_folders_is_refused(tmp_path):
    touch(tmp_path, "p1/x.jpg", "p2/x.jpg", "p2/y.jpg")
    path = write(tmp_path, "image,label\nx.jpg,a\ny.jpg,b\n")
    assert "may be several files" in refused(path, "table.folder=[p1, p2]")


def test_two_spellings_of_a_path_are_one_image(home):
    path = write(home, "image,label\na.png,x\n./a.png,x\nA.PNG,x\nb.png,y\n")
    source = listed(path)
    assert labels(source) == {"a.png": "x", "b.png": "y"}
    assert "2 rows repeat another one" in said(source)


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    count = Counter()
    scandir = os.scandir
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(300)))
    rows = "".join(f"{i},{i % 2}\n" for i in range(300))
    path = write(tmp_path, f"image,label\n{rows}")

    def counted(folder):
        count[str(folder)] += 1
        return scandir(folder)

    monkeypatch.setattr(locate.os, "scandir", counted)
    assert len(listed(path).parts["train"]) == 300
    assert set(count.values()) == {1}
    assert len(count) <= 4


def test_a_folder_that_may_not_be_listed_still_gives_its_files(tmp_path, monkeypatch):
    touch(tmp_path, "deep/a.png", "deep/b.png")

    def refuse(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(locate.os, "scandir", refuse)
    source = listed(write(tmp_path, "image,label\ndeep/a.png,x\ndeep/b.png,y\n"))
    assert labels(source) == {"deep/a.png": "x", "deep/b.png": "y"}


# Several labels


def test_rows_of_one_image_are_one_image_with_all_labels(home):
    path = write(home, "image,label\na.png,x\na.png,y\nb.png,y|z\nb.png,y|z\n./a.png,z\nc.png,\n")
    source = listed(path, SEVERAL)
    assert labels(source) == {"a.png": ("x", "y", "z"), "b.png": ("y", "z"), "c.png": ()}
    assert "2 rows name an image again; it counts once, with the labels of all its" in said(source)
    assert "1 rows repeat another one" in said(source)


@pytest.mark.parametrize(
    ("texts", "sign"),
    [
        (["scab", "rust", "scab frog"], " "),
        (["scab rust", "rust frog", "frog scab"], " "),
        (["scab, rust", "rust", "scab"], ","),
        (["scab;rust", "rust", "golden delicious"], ";"),
        (["a b c", "b", "c a", "x"], " "),
    ],
)
def test_labels_joined_by_another_sign_are_refused_with_what_to_type(home, texts, sign):
    rows = [f'{name},"{text}"\n' for name, text in zip(FILES, texts, strict=False)]
    path = write(home, "image,label\n" + "".join(rows))
    message = refused(path, SEVERAL)
    assert (
        f"seem to be joined by {sign!r}, not by '|'. Allowed: --set \"table.separator={sign}\""
        in (message)
    )
    assert 'one label, --set "table.separator=|"' in message
    split = listed(path, SEVERAL, f"table.separator={sign}")
    wanted = {part.strip() for text in texts for part in text.split(sign)}
    assert set(split.outputs) == wanted
    whole = listed(path, SEVERAL, "table.separator=|")
    assert set(whole.outputs) == set(texts)
    assert "the separator '|' of labels is in no row" in said(whole)


def test_names_of_two_words_are_said_and_taken(home):
    path = write(home, "image,label\na.png,golden retriever\nb.png,poodle\n")
    source = listed(path, SEVERAL)
    assert source.outputs == ("golden retriever", "poodle")
    assert "such as 'golden retriever', are one label each (1 of 2); if not, --set" in said(source)


def test_a_separator_that_is_in_use_is_not_questioned(home):
    path = write(home, "image,label\na.png,old town|town\nb.png,old\n")
    assert listed(path, SEVERAL).notes == ()


# One column a label


def test_one_hot_columns_are_classes_in_their_order(home):
    source = listed(write(home, FLAGS), "table.targets=[scab, rust]")
    assert source.outputs == ("scab", "rust")
    assert labels(source) == dict(zip(FILES, ("scab", "rust") * 2, strict=True))


@pytest.mark.parametrize("one", ["1", "1.0", "TRUE", "true"])
def test_flag_columns_are_labels(home, one):
    text = FLAGS.replace("1", one).replace("d.png,0", f"d.png,{one}")
    source = listed(write(home, text), SEVERAL, "table.targets=[scab, rust]")
    assert labels(source)["d.png"] == ("rust", "scab")
    assert source.outputs == ("scab", "rust")


@pytest.mark.parametrize(
    ("cells", "settings", "message"),
    [
        ("1,1", [], "line 6: needs exactly one 1 among 2 classes .*Received: scab, rust"),
        ("0,0", [], "line 6: needs exactly one 1 among 2 classes .*Received: none"),
        ("0.3,0.7", [], "line 6: scab must be 0 or 1. Received: '0.3'"),
        ("2,0", [SEVERAL], "line 6: scab must be 0 or 1. Received: '2'"),
        ("yes,0", [SEVERAL], "scab must be 0 or 1. Received: 'yes'"),
        ("-1,0", [SEVERAL], "line 6: scab is uncertain. Allowed: .*table.uncertain.*'-1'"),
        ("1,", [SEVERAL], "line 6: rust is uncertain.*Received: ''"),
    ],
)
def test_flags_that_say_something_else_are_refused(home, cells, settings, message):
    path = write(touch(home, "e.png"), FLAGS + f"e.png,{cells}\n")
    assert re.search(message, refused(path, "table.targets=[scab, rust]", *settings))


@pytest.mark.parametrize(
    ("policy", "given", "note"),
    [
        ("negative", (), "1 cells of -1 are read as 0, 1 empty ones as 0"),
        ("positive", ("scab",), "1 cells of -1 are read as 1, 1 empty ones as 0"),
    ],
)
def test_uncertain_flags_go_by_the_policy(home, policy, given, note):
    path = write(touch(home, "e.png"), FLAGS + "e.png,-1,\n")
    source = listed(path, SEVERAL, "table.targets=[scab, rust]", f"table.uncertain={policy}")
    assert labels(source)["e.png"] == given
    assert note in said(source)


def test_a_column_without_a_one_is_refused(home):
    path = write(
        home, FLAGS.replace("scab,rust", "scab,rust,mould").replace("\n", ",0\n")[:13] + ""
    )
    path = write(home, "image,scab,rust,mould\na.png,1,0,0\nb.png,0,1,0\n")
    message = refused(path, SEVERAL, "table.targets=[scab, rust, mould]")
    assert "no training image is labelled with 'mould'; leave it out of table.targets" in message


@pytest.mark.parametrize(
    ("content", "settings", "typed"),
    [
        (FLAGS, [], 'mean --set "table.targets=[scab, rust]"?'),
        (FLAGS, [SEVERAL], 'mean --set "table.targets=[scab, rust]"?'),
        (FLAGS.replace("image", "image_id"), [],
         'mean --set table.image=image_id --set "table.targets=[scab, rust]"?'),
        (FLAGS.replace("d.png,0", "d.png,1"), [],
         'mean --set "table.targets=[scab, rust]" --set task=multilabel?'),
        (FLAGS.replace("d.png,0", "d.png,-1"), [SEVERAL],
         '[scab, rust]" --set table.uncertain=negative (or positive)?'),
        (FLAGS.replace("rust", "no"), [], """mean --set 'table.targets=[scab, "no"]'?"""),
        (FLAGS.replace("rust", "a: b"), [], """mean --set 'table.targets=[scab, "a: b"]'?"""),
        (FLAGS.replace("rust", "1"), [], """mean --set 'table.targets=[scab, "1"]'?"""),
    ],
)  # fmt: skip
def test_columns_of_flags_are_recognised_and_said(home, content, settings, typed):
    message = refused(write(home, content), *settings)
    assert "lacks the column" in message
    assert typed in message


def test_what_is_said_to_type_can_be_typed(home):
    path = write(home, FLAGS.replace("rust", "1"))
    assert listed(path, 'table.targets=[scab, "1"]').outputs == ("scab", "1")
    assert listed(path, "table.targets=[scab, 1]").outputs == ("scab", "1")


# Options without effect


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["table.targets=[a, b]", "table.label=x"], "table.label: has no effect here"),
        (["table.separator=/"], "table.separator: has no effect here"),
        (["task=multilabel", "table.targets=[a]", "table.separator=/"], "table.separator: has no"),
        (["table.uncertain=negative"], "table.uncertain: has no effect here"),
        (["task=regression", "table.targets=[a]", "table.uncertain=positive"], "uncertain: has no"),
        (["table.targets=[a]"], "table.targets: a class needs a column of its own"),
        (["task=multilabel", "table.targets=[a, a]"], "table.targets: names a column twice"),
        (["class_names=[a, b]"], "class_names: names the numbers beside arrays"),
    ],
)
def test_options_that_the_task_ignores_are_refused(home, settings, message):
    assert message in refused(write(home, TEXT), *settings)


@pytest.mark.parametrize(
    "setting",
    ["table.image=x", "table.label=x", "table.folder=x", "table.outside=true", "table.encoding=x"],
)
def test_options_of_a_table_are_refused_where_there_is_none(image_folder, setting):
    result = CliRunner().invoke(main, ["plan", str(image_folder), "--set", setting])
    assert result.exit_code == 2
    name = setting.partition("=")[0]
    assert f"{name}: says how a table is read, and the data is none" in result.stderr


def test_options_of_a_table_hold_for_the_one_among_the_sources(image_folder, tmp_path):
    for file in image_folder.rglob("*0.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = write(tmp_path, "image,class\ndisc00.png,disc\nsquare00.png,square\n")
    spec = make_spec({"data": str(image_folder), "test": path, "table": {"label": "class"}})
    source = open_source(str(image_folder), test=path, targets=targets_of(spec))
    assert labels(source, "test") == {"test/disc00.png": "disc", "test/square00.png": "square"}


# Numbers


NUMBERS = "task=regression"


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["3,5", "-0,25", "4"], [3.5, -0.25, 4.0]),
        (["1,234", "0,5", "2"], [1.234, 0.5, 2.0]),
        (["0,123", "0,250", "1,000"], [0.123, 0.25, 1.0]),
    ],
)
def test_a_decimal_comma_is_read_where_it_is_sure(home, cells, values):
    rows = "".join(f"{name};{cell}\n" for name, cell in zip(FILES, cells, strict=False))
    source = listed(write(home, "image;label\n" + rows), NUMBERS)
    assert [e.label[0] for e in source.parts["train"]] == values
    assert re.search("numbers have a decimal comma: .* is read as", said(source))


@pytest.mark.parametrize(
    ("separator", "cells"),
    [
        (";", ["1,234", "12,345", "2"]),
        (";", ["1.234,5", "2", "3"]),
        (";", ["1,5", "2.5", "3"]),
        (",", ['"3,5"', "2", "1"]),
        (";", ["1_000", "2", "3"]),
    ],
)
def test_other_signs_in_numbers_are_refused(home, separator, cells):
    rows = "".join(f"{n}{separator}{c}\n" for n, c in zip(FILES, cells, strict=False))
    message = refused(write(home, f"image{separator}label\n" + rows), NUMBERS)
    assert "line 2: label: must be a number" in message


# Values of --set


@pytest.mark.parametrize(
    ("text", "value"),
    [(sign, sign) for sign in (" ", "|", ",", "#", "-", ":")] + [("' '", " "), ('"; "', "; ")],
)
def test_a_sign_is_taken_as_it_stands(text, value):
    assert merge({}, [f"table.separator={text}"]) == {"table": {"separator": value}}


@pytest.mark.parametrize(
    ("setting", "fields"),
    [
        ("table.label=no", {"table": {"label": "no"}}),
        ("table.label=1", {"table": {"label": "1"}}),
        ("table.image=a: b", {"table": {"image": "a: b"}}),
        ("out=", {"out": None}),
        ("out=null", {"out": None}),
        ("out= runs/x ", {"out": "runs/x"}),
        ("val= 0.2", {"val": 0.2}),
        ("seed=3", {"seed": 3}),
    ],
)
def test_options_of_text_take_text(setting, fields):
    assert merge({}, [setting]) == fields


# From the command line


def test_a_competition_s_table_goes_through(image_folder, tmp_path):
    """Ids without extension, one column a label, semicolons, a folder beside it."""
    rows = ["id;round;edged"]
    for file in sorted(image_folder.rglob("*.png")):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / file.name).write_bytes(file.read_bytes())
        rows.append(f"{file.stem};{int('disc' in file.stem)};{int('disc' not in file.stem)}")
    path = write(tmp_path, "\n".join(rows).encode("utf-16"), "Labels.TXT")
    told = CliRunner().invoke(main, ["data", "scan", path])
    assert told.exit_code == 2
    assert '--set table.image=id --set "table.targets=[round, edged]"' in told.stderr
    settings = ["--set", "table.image=id", "--set", "table.targets=[round, edged]"]
    shown = CliRunner().invoke(main, ["data", "scan", path, *settings, "--json"])
    summary = json.loads(shown.stdout)
    assert summary["files"]["usable"] == 36
    assert len(summary["notes"]) == 4
    options = ["--backbone", "MobileNet", "--image-size", "32", "--regime", "small"]
    options += ["--set", "backbone.alpha=0.25", "--set", "backbone.weights=none"]
    out = tmp_path / "run"
    trained = CliRunner().invoke(main, ["train", path, *settings, *options, "--out", str(out)])
    assert trained.exit_code == 0, trained.output
    assert "images of column id are taken from the folder images" in trained.output
    run = tlkit.open_run(out)
    assert run.labels == ("round", "edged")
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]


def test_rows_of_one_image_are_one_in_training(image_folder, tmp_path):
    rows = ["image,label"]
    for file in sorted(image_folder.rglob("*.png")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        rows += [f"{file.name},{file.parent.name}", f"{file.name},thing"]
    path = write(tmp_path, "\n".join(rows))
    run = tlkit.train(
        path, task="multilabel", regime="small", out=tmp_path / "run", progress=False, **TINY
    )
    assert sum(run.metrics["examples"].values()) == 36
    assert run.labels == ("disc", "square", "stripes", "thing")


def test_a_class_whose_files_are_gone_is_said_with_that_cause(image_folder, tmp_path):
    rows = ["image,label", "gone1.png,stripes", "gone2.png,stripes"]
    for file in sorted(image_folder.rglob("*0?.png")):
        if file.parent.name != "stripes":
            (tmp_path / file.name).write_bytes(file.read_bytes())
            rows.append(f"{file.name},{file.parent.name}")
    result = CliRunner().invoke(main, ["plan", write(tmp_path, "\n".join(rows))])
    assert result.exit_code == 2
    assert "classes with fewer than 2 usable images" in result.stderr
    assert "'stripes' (0)" in result.stderr
    assert "2 files were left out, such as gone1.png: cannot be read: No such file" in result.stderr


# Labels that are not what they seem


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("\"['scab', 'rust']\"", ("rust", "scab")),  # of pandas
        ('"[""scab"", ""rust""]"', ("rust", "scab")),  # JSON
        ('"{""choices"": [""scab"", ""rust""]}"', ("rust", "scab")),  # Label Studio
        ('"[scab,rust]"', ("rust", "scab")),
        ('"[""it\'s""]"', ("it's",)),
        ("[]", ()),
        ("[scab", ("[scab",)),
        ('"[""a"" ""b""]"', ('["a" "b"]',)),
        ('"{""rating"": [""a""]}"', ('{"rating": ["a"]}',)),
    ],
)
@pytest.mark.parametrize("separator", ["|", ","])
def test_lists_in_a_cell_are_several_labels(home, cell, found, separator):
    table = write(home, f"image,label\na.png,{cell}\nb.png,scab\nc.png,rust\n")
    source = listed(table, "task=multilabel", f"table.separator={separator}")
    assert labels(source)["a.png"] == found
    assert labels(source)["b.png"] == ("scab",)


def test_the_note_shows_how_a_list_is_read(home):
    table = write(home, "image,label\na.png,\"['scab', 'rust']\"\nb.png,\"['scab']\"\n")
    cell = "['scab', 'rust']"
    note = f"2 cells are lists of labels: {cell!r} is read as scab, rust"
    assert said(listed(table, "task=multilabel")) == note


@pytest.mark.parametrize(
    ("cells", "sign"),
    [
        (("a|b", "a", "b", "c"), "|"),
        (("a|b", "b|c", "c", "c"), "|"),
        (("scab rust", "scab", "rust", "scab"), " "),
        (("x;y", "x", "y", "x"), ";"),
        (("bell pepper", "pepper", "pepper", "tulip"), ""),
        (("golden retriever", "poodle", "poodle", "poodle"), ""),
        (("a, b", "c, d", "c, d", "e"), ""),
    ],
)
def test_classes_that_look_like_several_labels_are_named(home, cells, sign):
    rows = "".join(f'{file},"{cell}"\n' for file, cell in zip(FILES, cells, strict=True))
    source = listed(write(home, "image,label\n" + rows))
    text = f'if it is several labels: --set task=multilabel --set "table.separator={sign}"'
    assert said(source) == (f"{cells[0]!r} in column label is one class; {text}" if sign else "")
    assert labels(source)["a.png"] == cells[0]


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("1", "01"), "labels that are the same number: '01' and '1'; if they"),
        (("1", "1.0"), "labels that are the same number: '1' and '1.0'; if they"),
        (("1.5", "1"), ""),
        (("1a", "01a"), ""),
        (("cat", "nan"), "a class like any other, also if it means unknown: 'nan'"),
        (("cat", "N/A"), "a class like any other, also if it means unknown: 'N/A'"),
        (("0", "-1"), "a class like any other, also if it means unknown: '-1'"),
        (("?", "-"), "a class like any other, also if it means unknown: '-', '?'"),
        (("none", "unknown"), ""),  # a wafer without a defect; a class that is called so
    ],
)
def test_labels_that_are_doubtful_are_named(home, names, note):
    rows = "".join(f"{file},{names[i % 2]}\n" for i, file in enumerate(FILES))
    found = said(listed(write(home, "image,label\n" + rows)))
    assert found.startswith(note) if note else found == ""


def test_rows_that_deny_a_label_are_pointed_out(home):
    """Open Images has a row for each label that was looked for, also if it is not there."""
    rows = "a.png,x,1\na.png,y,0\nb.png,x,0\nb.png,y,1\n"
    table = write(home, "image,label,Confidence\n" + rows)
    note = "column Confidence of 0 and 1 is not read: a label counts in rows with 0 there, too"
    assert note in said(listed(table, "task=multilabel"))
    assert "Confidence" not in said(listed(table))
    once = write(home, "image,label,male\na.png,x,1\nb.png,y,0\n", "once.csv")
    assert said(listed(once, "task=multilabel")) == ""


# Parts


def test_parts_in_a_table_are_named_as_folders_of_parts_are(home):
    rows = "a.png,x,Training\nb.png,y,TRAIN\nc.png,x,dev\nd.png,y,testing\n"
    source = listed(write(home, "image,label,split\n" + rows))
    assert {part: len(own) for part, own in source.parts.items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }
    note = "parts by their names: Training as train, dev as val, testing as test"
    assert said(source) == note


def test_rows_without_a_part_are_for_training_and_counted(home):
    rows = "a.png,x,\nb.png,y,train\nc.png,x,\nd.png,y,test\n"
    source = listed(write(home, "image,label,split\n" + rows))
    assert sorted(labels(source)) == ["a.png", "b.png", "c.png"]
    assert said(source) == "2 rows with nothing in the column split are training rows"


@pytest.mark.parametrize(
    ("name", "cells", "told"),
    [
        ("Usage", ("Training", "PublicTest", "PrivateTest"), True),  # FER2013
        ("subset", ("train", "dev"), True),
        ("is_training", ("1", "0"), True),
        ("is_train_image", ("TRUE", "FALSE"), True),
        ("test", ("0", "1"), True),
        ("train", ("1", "1"), False),
        ("kind", ("train", "train"), False),
        ("attest", ("0", "1"), False),
        ("kind", ("bus", "car"), False),
    ],
)
def test_a_column_that_seems_to_say_the_parts_is_pointed_out(home, name, cells, told):
    rows = "".join(f"{f},{'xy'[i % 2]},{cells[i % len(cells)]}\n" for i, f in enumerate(FILES))
    found = said(listed(write(home, f"image,label,{name}\n{rows}")))
    note = f"column {name} seems to say the parts; only one called split is read"
    assert found == (note if told else "")


# What to type


@pytest.mark.parametrize(
    ("header", "typed"),
    [
        ("Path,ClassId", "--set table.image=Path --set table.label=ClassId"),
        ("ImageID,Class Name", '--set table.image=ImageID --set "table.label=Class Name"'),
        ("image,choice", "--set table.label=choice"),
    ],
)
def test_usual_columns_are_known_however_they_are_written(home, header, typed):
    assert f"Did you mean {typed}?" in refused(write(home, f"{header}\na.png,x\nb.png,y\n"))


def test_paths_that_begin_with_the_folder_of_the_table(tmp_path):
    """CheXpert's `train.csv` stands in the folder that its paths begin with."""
    data = touch(tmp_path / "set", *(f"train/{file}" for file in FILES))
    rows = "".join(f"set/train/{file},{'xy'[i % 2]}\n" for i, file in enumerate(FILES))
    table = write(data, "image,label\n" + rows)
    assert "begin with the folder of the table: --set table.folder=.." in refused(table)
    source = listed(table, "table.folder=..")
    assert sorted(labels(source)) == sorted(f"train/{file}" for file in FILES)
