"""Dermatology: 366 patients with one of six erythemato-squamous diseases; Guvenir et al., Artif. Intell. Med. 1998.

What the eye sees is the input, what the microscope shows is the concepts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from isthmus.data.datasets._files import choose, number, packed, read_csv
from isthmus.data.datasets._splits import draw, fill, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

CLINICAL = (
    "erythema", "scaling", "definite_borders", "itching", "koebner_phenomenon", "polygonal_papules",
    "follicular_papules", "oral_mucosal_involvement", "knee_and_elbow_involvement", "scalp_involvement",
    "family_history", "Age",
)  # fmt: skip
SLIDES = (
    "melanin_incontinence", "eosinophils_in_the_infiltrate", "PNL_infiltrate", "fibrosis_of_the_papillary_dermis",
    "exocytosis", "acanthosis", "hyperkeratosis", "parakeratosis", "clubbing_of_the_rete_ridges",
    "elongation_of_the_rete_ridges", "thinning_of_the_suprapapillary_epidermis", "spongiform_pustule",
    "munro_microabcess", "focal_hypergranulosis", "disappearance_of_the_granular_layer",
    "vacuolisation_and_damage_of_basal_layer", "spongiosis", "saw-tooth_appearance_of_retes", "follicular_horn_plug",
    "perifollicular_parakeratosis", "inflammatory_monoluclear_inflitrate", "band-like_infiltrate",
)  # fmt: skip
SPELLING = {"munro microabcess": "munro microabscess"} | {
    "inflammatory monoluclear inflitrate": "inflammatory mononuclear infiltrate"
}
GRADES = ("absent", "slight", "moderate", "strong")
CLASSES = (
    "psoriasis", "seborrheic dermatitis", "lichen planus", "pityriasis rosea", "chronic dermatitis",
    "pityriasis rubra pilaris",
)  # fmt: skip
CARD = DataCard(
    name="dermatology",
    title="Dermatology: clinical signs, histopathology, six diseases",
    licence="CC BY 4.0 (from memory)",
    source="UCI Dermatology, by way of github.com/renatopp/arff-datasets",
    terms="free use with attribution; no medical use",
    citation="Guvenir, Demiroz, Ilter: Artificial Intelligence in Medicine 13, 1998",
    notes=f"x holds, in order: {', '.join(CLINICAL)} (grades 0 to 3, family history 0 or 1, age in years; eight "
    "unknown ages are set to the training median). Grade 3 is the largest amount possible; our names for grades "
    f"0 to 3 are {', '.join(GRADES)}. No official split.",
)


@dataset("dermatology", summary="366 patients, 12 clinical inputs, 22 histopathology grades, 6 diseases (CC BY 4.0)")
def dermatology(
    *,
    path: str | Path | None = None,
    grades: Literal["categorical", "continuous", "present"] = "categorical",
    standardise: bool = False,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Skin patients, x float (B, 12); 22 findings under the microscope as concepts; split by ``seed``, stratified.

    grades: 'categorical' = states absent, slight, moderate, strong (K = 88); 'continuous' = a number from 0 to 3 (K =
    22); 'present' = binary, grade above 0 (K = 22). standardise: mean 0, standard deviation 1 of the training rows.
    """
    choose("dermatology", "grades", grades, ("categorical", "continuous", "present"))
    place = packed(path, "dermatology", "tabular/dermatology.csv.gz", CARD.source)
    rows = read_csv(place, "dermatology", (*CLINICAL, *SLIDES, "class"))
    x, slides, classes = (
        np.array([[number(row[name], place, name, i) for name in names] for i, row in enumerate(rows)])
        for names in (CLINICAL, SLIDES, ("class",))
    )
    words = [SPELLING.get(name.replace("_", " "), name.replace("_", " ")) for name in SLIDES]
    values = torch.from_numpy(slides).float()
    if grades == "categorical":
        space = ConceptSpace(tuple(Concept(name, "categorical", GRADES) for name in words))
    elif grades == "continuous":
        space = ConceptSpace(tuple(Concept(name, "continuous", unit="grade 0 to 3") for name in words))
    else:
        space, values = ConceptSpace.binary(words), (values > 0).float()
    y, task = torch.from_numpy(classes[:, 0]).long() - 1, Task.classes(CLASSES)
    marks = draw(y, task, validation=validation, test=test, seed=seed)
    table = Table(fill(x, marks), c=space.encode(values), y=y, space=space, task=task)
    return official(table, marks, name="dermatology", card=CARD, standardise=standardise)
