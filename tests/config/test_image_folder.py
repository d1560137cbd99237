"""Folders of own images: reading files, splits, refusals, predictions: make test-fast."""

import inspect
import logging
import os
import shutil
import struct
import zlib
from itertools import chain

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from clone import ROOT
from src.datasets.image_folder import ImageFolderDataModule
from src.datasets.prediction_images import PredictionImages
from src.utils.errors import UserError
from src.utils.image_files import ImageReader, channels_of
from src.utils.targets import instantiate

SIZE = (6, 8)  # (h, w)
COUNTS = {"daisy": 20, "rose": 40, "violet": 10}


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, array, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)
    return path


def read(path, channels=3, size=SIZE, **settings):
    return ImageReader(size, channels, **settings).read(path)


def make(folder, counts=COUNTS, shape=(9, 12, 3)):
    """Write images of classes, which all differ."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write(folder / f"{name}/{index:02}.png", pixels(*shape, seed=100 * number + index))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make(tmp_path_factory.mktemp("photos"))


def module(path, **settings):
    return ImageFolderDataModule(path, **{"image_size": list(SIZE), "batch_size": 8, **settings})


def ready(path, **settings):
    data = module(path, **settings)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def refusal(path, **settings):
    with pytest.raises(UserError) as error:
        ready(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(data, part):
    return [data.entries[place].file for place in data.parts[part]]


# --- reading a file


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_and_not_cut_off(tmp_path, suffix):
    values = np.arange(48, dtype=np.uint16).reshape(SIZE) * 1300
    file = write(tmp_path / f"0.{suffix}", values)

    grey = read(file, 1)

    assert grey.dtype == np.uint8
    assert grey.tolist() == [(values / 65535 * 255).round().astype(int).tolist()]
    assert (read(file, 3) == grey).all()
    cut = (values / 4095 * 255).round().clip(0, 255)
    assert read(file, 1, value_range=(0, 4095)).tolist() == [cut.astype(int).tolist()]
    assert read(file, 1, value_range=(1300, 2600)).min() == 0


def test_of_16_bits_per_colour_the_upper_8_are_used(tmp_path):
    values = (pixels(*SIZE, 3).astype(np.uint16) * 256 + 77).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + checksum
    (tmp_path / "0.png").write_bytes(content)

    assert (read(tmp_path / "0.png") == pixels(*SIZE, 3).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_the_orientation_of_a_camera_is_applied(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    ramp = np.tile(np.arange(0, 240, 40, dtype=np.uint8), (8, 1))  # 8 x 6, brighter to the right

    file = write(tmp_path / f"0.{suffix}", ramp, exif=exif)

    turned = read(file, 1)[0].astype(int)
    assert np.abs(turned - np.rot90(ramp, -1).astype(int)).max() < 10


def test_transparent_parts_become_white(tmp_path):
    colours = pixels(*SIZE, 4)
    colours[..., 3] = 255
    colours[0, 0] = (10, 20, 30, 0)
    with_alpha = write(tmp_path / "0.png", colours)
    grey = write(tmp_path / "1.png", colours[..., 2:])
    palette = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(SIZE), "P")
    palette.putpalette([200, 100, 50] * 48)
    palette.save(tmp_path / "2.png", transparency=0)

    read_ones = [read(file) for file in (with_alpha, grey, tmp_path / "2.png")]

    assert [one[:, 0, 0].tolist() for one in read_ones] == [[255] * 3] * 3
    assert (read_ones[0][:, 1:] == colours[1:, :, :3].transpose(2, 0, 1)).all()
    assert (read_ones[1][:, 1:] == colours[1:, :, 2]).all()
    assert read_ones[2][:, 3, 3].tolist() == [200, 100, 50]


def test_other_kinds_of_pixels_become_grey_or_coloured(tmp_path):
    image = Image.fromarray(pixels(*SIZE, 3))
    cmyk = image.convert("CMYK")
    cmyk.save(tmp_path / "0.tif")
    black = Image.fromarray(pixels(*SIZE) > 127)
    black.save(tmp_path / "1.png")
    image.save(tmp_path / "2.png")

    assert (read(tmp_path / "0.tif") == np.asarray(cmyk.convert("RGB")).transpose(2, 0, 1)).all()
    assert set(read(tmp_path / "1.png", 1).flatten().tolist()) == {0, 255}
    assert (read(tmp_path / "2.png", 1)[0] == np.asarray(image.convert("L"))).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", 1), ("LA", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("P", 3), ("CMYK", 3), ("RGBA", 3)],
)
def test_the_files_tell_the_number_of_channels(tmp_path, mode, expected):
    write(tmp_path / "0.png", pixels(*SIZE))
    (tmp_path / "1.png").write_text("no image")
    Image.new(mode, (8, 6)).save(tmp_path / "2.tif")

    assert channels_of([tmp_path / name for name in ("0.png", "1.png", "2.tif")]) == expected


def test_the_proportions_are_stretched_cropped_or_padded(tmp_path):
    wide = np.zeros((6, 24), np.uint8)
    wide[:, :8], wide[:, 8:16], wide[:, 16:] = 50, 100, 150
    file = write(tmp_path / "0.png", wide)

    stretch, crop, pad = (read(file, 1, fit=fit)[0] for fit in ("stretch", "crop", "pad"))

    assert stretch.shape == crop.shape == pad.shape == SIZE
    assert (stretch[0, 0], stretch[0, 4], stretch[5, 7]) == (50, 100, 150)
    assert set(crop.flatten().tolist()) == {100}
    assert pad[0].tolist() == pad[5].tolist() == [0] * 8
    assert (pad[2, 0], pad[2, 7]) == (50, 150)


def test_an_image_of_the_right_size_is_unchanged(tmp_path):
    file = write(tmp_path / "0.png", pixels(*SIZE, 3))

    assert all(
        (read(file, fit=fit) == pixels(*SIZE, 3).transpose(2, 0, 1)).all()
        for fit in ("stretch", "crop", "pad")
    )


def test_a_large_jpeg_file_is_shrunk_as_a_png_file_is(tmp_path):
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    large = np.tile(ramp, (600, 1))
    files = [write(tmp_path / f"0.{suffix}", large) for suffix in ("jpg", "png")]

    jpg, png = (read(file, 1).astype(int) for file in files)

    assert np.abs(jpg - png).max() < 4


# --- files that cannot be used


def damage(folder):
    """Write files that cannot be read; return name -> a part of what is said of them."""
    whole = write(folder / "rose/cut.jpg", pixels(90, 90, 3))
    whole.write_bytes(whole.read_bytes()[:-2000])
    for name, tail in (("rose/cut.png", 100), ("daisy/cut.tif", 3000)):
        file = write(folder / name, pixels(90, 90, 3))
        file.write_bytes(file.read_bytes()[:-tail])
    (folder / "rose/notes.txt").write_text("the photos of May")
    (folder / "daisy/empty.png").touch()
    (folder / "daisy/gone.png").symlink_to("no-such-file.png")
    write(folder / "violet/float.tif", pixels(*SIZE).astype(np.float32))
    write(folder / "violet/large.tif", pixels(*SIZE).astype(np.int32) * 1000)
    return {
        "daisy/cut.tif": "",
        "daisy/empty.png": "empty",
        "daisy/gone.png": "No such file or directory",
        "rose/cut.jpg": "image file is truncated",
        "rose/cut.png": "",
        "rose/notes.txt": "not an image",
        "violet/float.tif": "its pixels are 32-bit floats: convert them to 16 bits",
        "violet/large.tif": "its pixels are",
    }


@pytest.mark.parametrize("settings", [{}, {"in_memory": False, "mean": [0.5], "std": [0.2]}])
def test_all_files_that_cannot_be_used_are_named_before_the_training(tmp_path, settings):
    make(tmp_path, {"daisy": 4, "rose": 4, "violet": 4}, (9, 12))
    expected = damage(tmp_path)

    message = refusal(tmp_path, **settings, channels=1)

    assert message.startswith(f"8 of 20 files in {tmp_path} cannot be used: ")
    assert message.endswith("; repair or remove them")
    for name, reason in expected.items():
        assert f"{name} ({reason}" in message


def test_ten_files_are_listed(tmp_path):
    make(tmp_path, {"daisy": 4, "rose": 4})
    for number in range(13):
        (tmp_path / f"rose/x{number}.png").write_text("no image")

    message = refusal(tmp_path)

    assert message.startswith("13 of 21 files")
    assert message.count("(not an image)") == 10
    assert " and 3 more; " in message


def test_hidden_files_are_ignored(tmp_path):
    make(tmp_path, {"daisy": 4, "rose": 4})
    for name in (".DS_Store", "rose/.hidden.png", "rose/Thumbs.db", "__MACOSX/rose/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no image")
    (tmp_path / "README.md").write_text("notes beside the folders")

    assert len(ready(tmp_path).entries) == 8


# --- classes and parts


def test_folders_are_the_classes_and_a_seed_draws_the_parts(photos):
    data = ready(photos, test_split=0.2, val_split=0.25)

    assert data.classes == ("daisy", "rose", "violet")
    assert data.dims == (3, *SIZE)
    counts = {part: data.labels[torch.tensor(data.parts[part])].bincount() for part in data.parts}
    assert counts["test"].tolist() == [4, 8, 2]
    assert counts["val"].tolist() == [4, 8, 2]
    assert counts["train"].tolist() == data.class_counts() == [12, 24, 6]
    for part, dataset in (
        ("train", data.train_set),
        ("val", data.val_set),
        ("test", data.test_set),
    ):
        image, label = dataset[3]
        name = names(data, part)[3]
        assert data.classes[label] == name.split("/")[0]
        expected = torch.from_numpy(read(photos / name).copy()).float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
        assert torch.allclose(image, (expected - mean) / std, atol=1e-5)
        assert image.dtype == torch.float32


def test_runs_with_other_seeds_have_the_same_test_images(photos):
    first, second = module(photos), module(photos, seed=2)

    assert names(first, "test") == names(second, "test")
    assert names(first, "val") != names(second, "val")
    assert names(module(photos, split_seed=2), "test") != names(first, "test")
    assert len(names(module(photos, test_split=0.5), "test")) == 35


def test_folds_leave_the_test_images_alone(photos):
    folds = [module(photos, folds=3, fold=fold) for fold in range(3)]

    val = [names(data, "val") for data in folds]

    assert len({tuple(names(data, "test")) for data in folds}) == 1
    assert sorted(sum(val[1:], val[0]) + names(folds[0], "test")) == [
        e.file for e in folds[0].entries
    ]
    assert all(
        len(names(data, "train")) + len(part) == 63 for data, part in zip(folds, val, strict=True)
    )


def test_folders_can_be_the_parts(tmp_path):
    for seed, part in enumerate(("train", "test")):
        for name in ("daisy", "rose"):
            for index in range(5):
                file = tmp_path / part / name / f"deeper/{index}.png"
                write(file, pixels(*SIZE, seed=hash((seed, name, index)) % 10**6))

    data = ready(tmp_path, split="folders", val_split=0.2)

    assert {name.split("/")[0] for name in names(data, "test")} == {"test"}
    assert [len(data.parts[part]) for part in ("train", "val", "test")] == [8, 2, 10]
    assert data.classes == ("daisy", "rose")
    assert data.dims == (1, *SIZE)
    for name in ("daisy", "rose"):
        write(tmp_path / f"val/{name}/1.png", pixels(*SIZE, seed=len(name)))
    data = ready(tmp_path, split="folders")
    assert [len(data.parts[part]) for part in ("train", "val", "test")] == [10, 2, 10]
    assert len(module(tmp_path, split="folders", folds=4).parts["val"]) == 3


def csv_of(folder, *lines, header="file,split"):
    (folder / "parts.csv").write_text("\n".join((header, *lines)) + "\n", encoding="utf-8-sig")
    return "parts.csv"


PART_OF = ["train", "train", "val", "test"]


def test_a_csv_file_can_list_the_parts(tmp_path):
    make(tmp_path, {"daisy": 4, "rose": 4})
    lines = [f"{name}/{k:02}.png, {PART_OF[k]}" for name in ("rose", "daisy") for k in range(4)]

    data = ready(tmp_path, split=csv_of(tmp_path, *lines, ""))

    assert names(data, "train") == ["rose/00.png", "rose/01.png", "daisy/00.png", "daisy/01.png"]
    assert names(data, "val") == ["rose/02.png", "daisy/02.png"]
    assert names(data, "test") == ["rose/03.png", "daisy/03.png"]
    assert data.labels.tolist() == [1] * 4 + [0] * 4


def test_a_csv_file_can_name_the_classes(tmp_path):
    make(tmp_path, {"all": 8})
    lines = [f"all/{k:02}.png,{PART_OF[k // 2]},{'small' if k % 2 else 'large'}" for k in range(8)]

    data = ready(tmp_path, split=csv_of(tmp_path, *lines, header="file,split,label"))

    assert data.classes == ("large", "small")
    assert data.labels.tolist() == [0, 1] * 4


def test_a_csv_file_can_have_numbers_to_predict(tmp_path):
    make(tmp_path, {"all": 8})
    lines = [f"all/{k:02}.png,{PART_OF[k // 2]},{k / 4}" for k in range(8)]

    data = ready(tmp_path, split=csv_of(tmp_path, *lines, header="file,split,target"), batch_size=2)

    assert not data.classes
    [(_, first), *_] = list(data.train_dataloader())
    assert first.dtype == torch.float32
    assert data.labels.tolist() == [k / 4 for k in range(8)]
    data = ready(tmp_path, split="parts.csv", folds=3, fold=1)
    assert len(data.val_set) == 2
    with pytest.raises(UserError, match="the labels are numbers, not classes"):
        data.class_counts()


# --- what is refused


def folder_of(tmp_path, *files):
    for number, name in enumerate(files):
        write(tmp_path / name, pixels(*SIZE, seed=number))
    return tmp_path


FOLDERS = {
    "there are none": ([], "{0} contains no images: it must have one folder per class"),
    "one class": (
        ["rose/1.png", "rose/2.png"],
        "{0} has one class only, rose: add images of another class",
    ),
    "outside": (
        ["rose/1.png", "2.png"],
        "images in {0} are in no class folder: 2.png; move them into one",
    ),
    "one image": (
        ["rose/1.png", "rose/2.png", "rose/3.png", "daisy/1.png"],
        "{0} has no test images of daisy: each class needs training images and test images",
    ),
    "parts": (
        ["train/rose/1.png", "test/rose/1.png"],
        "the folders in {0} are test, train: use data.split=folders",
    ),
}


@pytest.mark.parametrize("fault", FOLDERS)
def test_folders_that_are_no_classes_are_refused(tmp_path, fault):
    files, sentence = FOLDERS[fault]

    assert refusal(folder_of(tmp_path, *files)) == sentence.format(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path):
    make(tmp_path, {"daisy": 4, "rose": 4})
    (tmp_path / "lily").mkdir()

    assert refusal(tmp_path) == f"class folders in {tmp_path} contain no images: lily"


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    rule = "data.path must be the folder of the images"

    assert refusal(tmp_path / "none") == f"{tmp_path}/none is missing: {rule}"
    assert refusal(tmp_path / "file") == f"{tmp_path}/file is not a folder: {rule}"


@pytest.mark.parametrize("closed", ["", "rose/deeper"])
def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch, closed):
    folder_of(tmp_path, "rose/1.png", "rose/deeper/2.png", "daisy/1.png")
    scan, listdir = os.scandir, os.listdir

    def guarded(usual, path):
        if os.fspath(path) == str(tmp_path / closed):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    # the tests may run as root, who may read everything
    monkeypatch.setattr(os, "scandir", lambda path: guarded(scan, path))
    monkeypatch.setattr(os, "listdir", lambda path: guarded(listdir, path))

    assert refusal(tmp_path) == f"{tmp_path / closed} cannot be read: Permission denied"


BOTH = ["train/rose/1.png", "train/rose/2.png", "train/daisy/1.png", "train/daisy/2.png"]
PARTS = {
    "no test folder": (
        BOTH,
        "{0}/test: missing; data.split=folders needs the folders train, test and, if you like, val",
    ),
    "another folder": (
        [*BOTH, "test/rose/1.png", "validation/rose/1.png"],
        "{0} has other folders than train, val and test: validation",
    ),
    "a class without test images": (
        [*BOTH, "test/rose/1.png"],
        "{0} has no test images of daisy: each class needs training images and test images",
    ),
    "a class without training images": (
        [*BOTH, "test/rose/1.png", "test/daisy/1.png", "test/lily/1.png"],
        "{0} has no training images of lily",
    ),
    "a class with validation images only": (
        [*BOTH, "test/rose/1.png", "test/daisy/1.png", "val/lily/1.png"],
        "{0} has no training images of lily",
    ),
}


@pytest.mark.parametrize("fault", PARTS)
def test_parts_of_other_classes_are_refused(tmp_path, fault):
    files, sentence = PARTS[fault]

    assert refusal(folder_of(tmp_path, *files), split="folders") == sentence.format(tmp_path)


CSV = {
    "columns": ("file,part", ["1,train"], "has no column split; it has file, part"),
    "semicolons": ("file;split", ["1;train"], "has no column file, split; it has file;split"),
    "empty": ("file,split", [], "lists no files"),
    "both": (
        "file,split,label,target",
        [],
        "has the columns label (classes) and target (numbers): keep one",
    ),
    "missing": (
        "file,split",
        ["rose/0.png,train", "a/1.png,test", "a/2.png,test"],
        "has 2 faults: line 3: a/1.png is missing in {0}, line 4: a/2.png is missing in {0}",
    ),
    "other part": (
        "file,split",
        ["rose/0.png,training"],
        "has 1 faults: line 2: split is 'training', but must be train, val or test",
    ),
    "twice": (
        "file,split",
        ["rose/0.png,train", "./rose/0.png,test"],
        "has 1 faults: ./rose/0.png is listed twice, for train and test",
    ),
    "no label": (
        "file,split,label",
        ["rose/0.png,train"],
        "has 1 faults: line 2: label is empty",
    ),
    "no number": (
        "file,split,target",
        ["rose/0.png,train,1.5", "rose/1.png,test,nan"],
        "has 1 faults: line 3: target is 'nan', but must be a number",
    ),
    "no file": ("file,split", [",train"], "has 1 faults: line 2: file is empty"),
}


@pytest.mark.parametrize("fault", CSV)
def test_a_csv_file_with_faults_is_refused(tmp_path, fault):
    header, lines, sentence = CSV[fault]
    folder_of(tmp_path, "rose/0.png", "rose/1.png")

    message = refusal(tmp_path, split=csv_of(tmp_path, *lines, header=header))

    assert message == f"{tmp_path}/parts.csv {sentence.format(tmp_path)}"


def test_a_csv_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")

    assert refusal(tmp_path, split="a.csv") == (
        f"data.split: {tmp_path}/a.csv cannot be read (No such file or directory); a CSV file is"
        " looked for in data.path"
    )
    assert refusal(tmp_path, split="b.csv").endswith(
        "b.csv is not a text in UTF-8: save it as CSV again"
    )


def test_equal_files_in_two_parts_are_refused_unless_allowed(tmp_path):
    make(tmp_path / "train", {"daisy": 4, "rose": 4})
    for name in ("daisy", "rose"):
        write(tmp_path / f"test/{name}/1.png", pixels(5, 5, seed=len(name)))
    shutil.copy(tmp_path / "train/daisy/02.png", tmp_path / "test/rose/2.png")

    message = refusal(tmp_path, split="folders")

    assert message.startswith(
        f"1 images in {tmp_path} are also in another part: train/daisy/02.png"
    )
    assert " and test/rose/2.png (test); " in message
    assert message.endswith("; remove one of each pair, or set data.allow_duplicates=true")
    ready(tmp_path, split="folders", allow_duplicates=True)


SETTINGS = {
    "path": (None, "", 3),
    "image_size": (0, -3, 2.5, [8], [8, 0], "64", True, [1, 2, 3]),
    "channels": (2, "3", True, [3]),
    "fit": ("crop_middle", None, ["crop"]),
    "value_range": ([0], [5, 5], ["a", "b"], 4095),
    "split": ("random", None, 3),
    "test_split": (0, 1, float("nan"), "0.1"),
    "split_seed": (1.5, "a"),
    "in_memory": ("no", 1),
    "allow_duplicates": ("no",),
    "mean": (0.5, [], ["a"], [float("nan")]),
    "std": ([0.0], [-1]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_not_valid_is_refused(photos, name):
    for value in SETTINGS[name]:
        settings = {"path": photos, name: value}
        message = refusal(settings.pop("path"), **settings)
        assert message.startswith(f"data.{name} must be "), value
        assert message.endswith(f", not {value!r}")


def test_a_mean_of_another_number_of_channels_is_refused(photos):
    message = refusal(photos, mean=[0.5])

    assert message == "data.mean has 1 values, but the images have 3 channels"


# --- settings with an effect


def test_mean_and_std_are_those_of_the_training_images_or_given(photos):
    data = ready(photos)
    train = np.stack([read(photos / name) for name in names(data, "train")]) / 255

    assert data.mean == pytest.approx(train.mean(axis=(0, 2, 3)), abs=1e-4)
    assert data.std == pytest.approx(train.std(axis=(0, 2, 3)), abs=1e-4)
    given = ready(photos, mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5])
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    shown = given.val_set[0][0] * 0.5 + torch.tensor(given.mean).view(3, 1, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    assert torch.allclose(shown, data.val_set[0][0] * std + mean, atol=1e-5)


def test_channels_size_fit_and_range_have_an_effect(tmp_path):
    for number in range(8):
        values = pixels(*SIZE, seed=number).astype(np.uint16) * 16
        write(tmp_path / f"{'daisy' if number % 2 else 'rose'}/{number}.png", values)

    usual = ready(tmp_path)
    assert usual.dims == (1, *SIZE)
    assert ready(tmp_path, image_size=12).dims == (1, 12, 12)
    assert ready(tmp_path, channels=3).dims == (3, *SIZE)
    assert ready(tmp_path, value_range=[0, 4095]).mean[0] > 10 * usual.mean[0]
    padded = ready(tmp_path, image_size=12, fit="pad")
    assert padded.mean[0] < ready(tmp_path, image_size=12).mean[0] * 0.9
    assert padded.preprocessing["fit"] == "pad"


ROTATION = {"_target_": "torchvision.transforms.v2.RandomRotation", "degrees": 30}


@pytest.mark.parametrize("settings", [{}, {"transform": [ROTATION], "balanced": True}])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_in_memory_and_in_files_give_the_same_batches(photos, settings, num_workers):
    def batches(**other):
        data = ready(photos, **settings, **other)
        loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
        first = [batch for loader in loaders for batch in loader]
        data.position = {"epoch": 0, "batches": 3}
        return first, list(data.train_dataloader()), (data.mean, data.std)

    (whole, rest, used), (in_files, rest_in_files, used_too) = (
        batches(),
        batches(in_memory=False, num_workers=num_workers),
    )

    assert used == used_too
    assert len(rest) == 4
    for one, other in zip(whole + rest, in_files + rest_in_files, strict=True):
        assert all(map(torch.equal, one, other))
    assert all(map(torch.equal, whole[3], rest[0]))


def test_files_are_read_once_if_they_are_kept_in_memory(photos, monkeypatch):
    count, usual = [], ImageReader.read_with_digest

    def counted(self, path):
        count.append(path)
        return usual(self, path)

    monkeypatch.setattr(ImageReader, "read_with_digest", counted)
    list(ready(photos).train_dataloader())
    assert len(count) == 70
    count.clear()
    # not even once, where no file has to be read
    data = module(photos, in_memory=False, mean=[0.5] * 3, std=[0.2] * 3)
    data.setup("fit")
    assert count == []
    next(iter(data.train_dataloader()))
    assert len(count) == data.batch_size


def test_the_log_describes_the_data(photos, caplog):
    with caplog.at_level(logging.INFO, "src"):
        data = ready(photos)

    assert caplog.messages[0] == f"reading 70 images in {photos}, 0.0 GiB in memory"
    parts = "3 classes, 56 train, 7 val, 7 test, 3 x 6 x 8; mean ["
    assert caplog.messages[1].startswith(f"data: {photos}, {parts}")
    assert str(data.std[2]) in caplog.messages[1]


def test_the_configuration_has_every_setting_with_its_default(photos):
    settings = yaml.safe_load((ROOT / "configs/data/image_folder.yaml").read_text())
    not_there = {"self", "seed", "pin_memory", "path"}
    parameters = inspect.signature(ImageFolderDataModule).parameters

    assert settings.keys() - {"_target_"} == parameters.keys() - not_there
    for name, parameter in parameters.items():
        if name not in not_there:
            default = parameter.default
            assert settings[name] == (list(default) if name == "value_range" else default), name
    assert instantiate({**settings, "path": str(photos)}, seed=3).seed == 3


# --- images to predict


@pytest.mark.parametrize("in_memory", [True, False])
def test_predictions_get_what_the_test_got(photos, in_memory):
    data = ready(photos, in_memory=in_memory, fit="crop", image_size=5)
    files = [str(photos / name) for name in names(data, "test")]
    preprocessing = yaml.safe_load(yaml.safe_dump(data.preprocessing))

    batches = list(PredictionImages(files, **preprocessing, batch_size=3))

    assert [len(images) for images, _ in batches] == [3, 3, 1]
    assert list(chain.from_iterable(paths for _, paths in batches)) == files
    tested = torch.cat([images for images, _ in data.test_dataloader()])
    assert torch.equal(torch.cat([images for images, _ in batches]), tested)


def test_a_folder_stands_for_its_files_and_damaged_ones_are_named(tmp_path, caplog):
    make(tmp_path, {"daisy": 3, "rose": 3})
    (tmp_path / "daisy/01.png").write_text("no image")
    (tmp_path / "rose/a.txt").write_text("no image")
    images = PredictionImages([tmp_path, tmp_path / "rose/00.png"], (1, 4, 4), batch_size=2)

    batches = list(images)

    files = [f"{tmp_path}/{name}" for name in ("daisy/00.png", "daisy/02.png", "rose/00.png")]
    files += [f"{tmp_path}/{name}" for name in ("rose/01.png", "rose/02.png", "rose/00.png")]
    assert list(chain.from_iterable(paths for _, paths in batches)) == files
    assert sum(len(images) for images, _ in batches) == 6
    damaged = [f"{tmp_path}/daisy/01.png", f"{tmp_path}/rose/a.txt"]
    assert images.damaged == [(file, "not an image") for file in damaged]
    assert caplog.messages == [
        f"2 of 8 files are left out: {damaged[0]} (not an image), {damaged[1]} (not an image)"
    ]


def test_nothing_to_predict_is_refused(tmp_path):
    def message(paths, dims=(1, 4, 4)):
        with pytest.raises(UserError) as error:
            list(PredictionImages(paths, dims))
        return str(error.value)

    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    nothing = "there is nothing to predict in"
    assert message([tmp_path / "b.png"]) == f"{nothing} {tmp_path}/b.png: no such file or folder"
    assert message(str(tmp_path / "empty")) == f"{nothing} {tmp_path}/empty: it contains no files"
    assert message([]).startswith(f"{nothing} an empty list of paths")
    one = f"{tmp_path}/a.png (not an image)"
    assert message(tmp_path / "a.png") == f"none of the 1 files can be read: {one}"
    assert message(tmp_path, (4, 4, 4)).startswith("the network takes images of 4 channels")


def test_the_images_of_cifar_10_have_a_preprocessing(tmp_path):
    from src.datasets.cifar10 import CIFAR10DataModule

    write(tmp_path / "1.png", pixels(32, 32, 3))
    data = CIFAR10DataModule("none")

    [(images, _)] = PredictionImages(tmp_path, **data.preprocessing)

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    expected = torch.from_numpy(pixels(32, 32, 3)).permute(2, 0, 1) / 255
    assert torch.allclose(images[0], (expected - mean) / std, atol=1e-5)
