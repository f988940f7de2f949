"""Tiny data sets in the official raw layouts, written to a folder by the fixture ``raw``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(place: Path, *, width: int = 20, height: int = 10, shade: int = 0) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), shade, dtype=np.uint8)).save(place)


def write_cub(
    root: Path, *, classes: int = 3, train: int = 5, test: int = 2, attributes: int = 312, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``train`` + ``test`` pictures of 40 x 20 px for each class; returns present, certainty (B, A) and y (B,)."""
    generator = np.random.default_rng(seed)
    each = train + test
    count = classes * each
    y = np.repeat(np.arange(classes), each)
    species = [f"{cls + 1:03d}.Bird_{cls}" for cls in range(classes)]
    files = [f"{species[cls]}/Bird_{cls}_{i % each:04d}.png" for i, cls in enumerate(y)]
    present, certainty = generator.integers(0, 2, (count, attributes)), generator.integers(1, 5, (count, attributes))
    names = ["has_wing_color", "has_bill_shape", "has_size"]
    seen = {2: "12.0 6.0 1", 13: "20.0 10.0 1"}  # the beak and the right wing; all other parts are hidden
    lines: dict[str, list[str]] = {
        "images.txt": [f"{i + 1} {file}" for i, file in enumerate(files)],
        "image_class_labels.txt": [f"{i + 1} {cls + 1}" for i, cls in enumerate(y)],
        "train_test_split.txt": [f"{i + 1} {int(i % each < train)}" for i in range(count)],
        "bounding_boxes.txt": [f"{i + 1} 10.0 5.0 20.0 10.0" for i in range(count)],
        "classes.txt": [f"{cls + 1} {name}" for cls, name in enumerate(species)],
        "attributes/attributes.txt": [f"{a + 1} {names[a % 3]}::value_{a}" for a in range(attributes)],
        "attributes/certainties.txt": ["1 not visible", "2 guessing", "3 probably", "4 definitely"],
        "attributes/image_attribute_labels.txt": [
            f"{i + 1} {a + 1} {present[i, a]} {certainty[i, a]} {generator.random():.3f}"
            for i in range(count)
            for a in range(attributes)
        ],
        "parts/part_locs.txt": [f"{i + 1} {part} {seen.get(part, '0.0 0.0 0')}" for i in range(count) for part in range(1, 16)],
    }
    for file, rows in lines.items():
        place = root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(rows) + "\n")
    for i, file in enumerate(files):
        picture(root / "images" / file, width=40, height=20, shade=i)
    return present, certainty, y


def write_awa2(root: Path, *, each: int = 6) -> None:
    animals = ["antelope", "grizzly+bear", "killer+whale"]
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("".join(f"{i:>6}\t{name}\n" for i, name in enumerate(animals, 1)))
    (root / "predicates.txt").write_text("     1\tblack\n     2\twater\n     3\tfurry\n     4\thooves\n")
    (root / "predicate-matrix-binary.txt").write_text("0 0 1 1\n1 0 1 0\n1 1 0 0\n")
    for cls, animal in enumerate(animals):
        for i in range(each):
            picture(root / "JPEGImages" / animal / f"{animal}_{10001 + i}.jpg", shade=10 * cls)


def write_celeba(root: Path, values: np.ndarray, *, partition: list[int]) -> tuple[str, ...]:
    """values (B, A) in {0, 1}; pictures of 178 x 218 px; returns the names of the attributes."""
    names = tuple(f"Attr_{a}" for a in range(values.shape[1]))
    files = [f"{i + 1:06d}.jpg" for i in range(len(values))]
    rows = [f"{file} " + " ".join(f"{2 * v - 1:>2}" for v in row) for file, row in zip(files, values, strict=True)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(files)), " ".join(names), *rows]) + "\n")
    (root / "list_eval_partition.txt").write_text("".join(f"{f} {p}\n" for f, p in zip(files, partition, strict=True)))
    for i, file in enumerate(files):
        picture(root / "img_align_celeba" / file, width=178, height=218, shade=i)
    return names


DERM_ROWS = (
    ("melanoma (in situ)", "atypical", "present", "linear irregular", "diffuse irregular", "irregular", "irregular",
     "combinations"),
    ("clark nevus", "typical", "absent", "comma", "diffuse regular", "absent", "regular", "absent"),
    ("basal cell carcinoma", "absent", "absent", "arborizing", "absent", "absent", "absent", "blue areas"),
    ("Seborrheic Keratosis", "absent", "absent", "hairpin", "localized irregular", "regular", "absent", "white areas"),
    ("lentigo", "typical", "absent", "absent", "localized regular", "absent", "regular", "absent"),
    ("reed or spitz nevus", "atypical", "absent", "dotted", "diffuse regular", "regular", "regular", "absent"),
)  # fmt: skip
DERM_COLUMNS = (
    "diagnosis", "pigment_network", "blue_whitish_veil", "vascular_structures", "pigmentation", "streaks",
    "dots_and_globules", "regression_structures",
)  # fmt: skip


def write_derm7pt(root: Path) -> None:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    lines = [",".join(("case_num", *DERM_COLUMNS, "clinic", "derm"))]
    for i, row in enumerate(DERM_ROWS):
        lines.append(",".join((str(i + 1), *row, f"NEL/c{i}.jpg", f"NEL/d{i}.jpg")))
        picture(root / "images" / "NEL" / f"c{i}.jpg", shade=100)
        picture(root / "images" / "NEL" / f"d{i}.jpg", width=30, shade=200)
    (root / "meta" / "meta.csv").write_text("\n".join(lines) + "\n")
    for name, rows in (("train", (0, 2, 4)), ("valid", (1,)), ("test", (3, 5))):
        (root / "meta" / f"{name}_indexes.csv").write_text("indexes\n" + "".join(f"{row}\n" for row in rows))


def write_sub(root: Path, rows: list[tuple[str, str]], *, how: str = "folder", group_size: int = 2) -> None:
    """Rows of attribute and species; the picture of row i has shade 3 i. ``how``: 'folder', 'parquet' with class codes,
    or 'texts', Parquet without."""
    pictures = [f"{i}.png" for i in range(len(rows))]
    for i, name in enumerate(pictures):
        picture(root / "images" / name, shade=3 * i)
    if how == "folder":
        lines = [f"images/{name},{attribute},{bird}" for name, (attribute, bird) in zip(pictures, rows, strict=True)]
        (root / "metadata.csv").write_text("\n".join(["file_name,attr_label,bird_label", *lines]) + "\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    coded, columns = how == "parquet", ("image", "attr_label", "bird_label")
    names = [sorted({row[column] for row in rows}) for column in (0, 1)]
    fields = [pa.struct([("bytes", pa.binary()), ("path", pa.string())]), *[pa.int64() if coded else pa.string()] * 2]
    features = {key: {"names": mine, "_type": "ClassLabel"} for key, mine in zip(columns[1:], names, strict=True)}
    told = {"huggingface": json.dumps({"info": {"features": features}})} if coded else None
    schema = pa.schema(list(zip(columns, fields, strict=True)), metadata=told)
    (root / "data").mkdir(parents=True, exist_ok=True)
    for part, at in enumerate((slice(0, len(rows) // 2), slice(len(rows) // 2, None))):
        cells = [{"bytes": (root / "images" / name).read_bytes(), "path": name} for name in pictures[at]]
        labels = [[names[k].index(row[k]) if coded else row[k] for row in rows[at]] for k in (0, 1)]
        arrays = [pa.array(column, kind) for column, kind in zip((cells, *labels), fields, strict=True)]
        file = root / "data" / f"test-{part:05d}-of-00002.parquet"
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, row_group_size=group_size)
    for name in pictures:
        (root / "images" / name).unlink()


DERMACON = (
    "Descriptors_Plaque", "Descriptors_Scale", "Body_part_Back", "Body_part_Armpits (Axillary Region)", "Body_part_Scalp",
)  # fmt: skip


def dermacon_rows(part: str, patients: int, *, each: int = 2, first: int = 0) -> list[dict[str, str]]:
    """``each`` pictures of every patient; classes go by the patient, concepts by the row."""
    rows: list[dict[str, str]] = []
    for patient in range(first, first + patients):
        kind = patient % 3
        for shot in range(each):
            n = each * patient + shot
            row = {"Image_name": f"IMG_{n:04d}.jpg", "Subject_ID": f"SUB{patient:05d}", "Sex": ("Male", "Female", "N/A")[n % 3]}
            row |= {"Age": f"{10 * (n % 8)} - {10 * (n % 8) + 10}", "Gradability": ("Yes", "No")[n % 2]}
            row |= {"Fitzpatrick": f"FST {n % 6 + 1}", "Monk_skin_tone": f"MST {n % 10 + 1}", "Confidence": str(n % 5 + 1)}
            row |= {
                "Main_class": ("Infectious", "Infectious", "Neoplasms")[kind],
                "Sub_class": ("Fungal", "Viral", "Benign")[kind],
            }
            row |= {"Disease_label": ("" if n == 3 else f"Disease {kind}{shot}"), "Split": part}
            rows.append(row | {name: str(n >> k & 1) for k, name in enumerate(DERMACON)})
    return rows


def write_dermacon(root: Path, *, train: int = 12, test: int = 4) -> None:
    (root / "METADATA").mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", dermacon_rows("train", train)), ("test", dermacon_rows("test", test, first=train))):
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (root / "METADATA" / f"{part}_split.csv").write_text("\n".join(lines) + "\n")
        for row in rows:
            picture(root / "DATASET" / row["Image_name"], shade=int(row["Image_name"][4:8]))


class Raw:
    """Writers of the raw layouts."""

    picture = staticmethod(picture)
    cub = staticmethod(write_cub)
    awa2 = staticmethod(write_awa2)
    celeba = staticmethod(write_celeba)
    derm7pt = staticmethod(write_derm7pt)
    sub = staticmethod(write_sub)
    dermacon = staticmethod(write_dermacon)


@pytest.fixture
def raw() -> type[Raw]:
    return Raw
