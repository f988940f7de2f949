"""Heart disease, Cleveland: 303 patients; what is known at rest is the input, what the tests show is the concepts.

Detrano et al., Am. J. Cardiol. 1989. The division into inputs and concepts is ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from isthmus.data.datasets._files import codes, number, packed, read_csv
from isthmus.data.datasets._splits import draw, official
from isthmus.data.registry import dataset
from isthmus.data.table import DataCard, Splits, Table
from isthmus.space import Concept, ConceptSpace, Task

NUMBERS = ("age", "trestbps", "chol")
STATES = {
    "sex": ("female", "male"),
    "cp": ("typ_angina", "atyp_angina", "non_anginal", "asympt"),
    "fbs": ("f", "t"),
    "restecg": ("normal", "st_t_wave_abnormality", "left_vent_hyper"),
}
SPACE = ConceptSpace.of(
    Concept("thalach", "continuous", group="exercise", text="maximum heart rate reached", unit="beats per minute"),
    Concept("exang", group="exercise", text="angina under exercise"),
    Concept("oldpeak", "continuous", group="exercise", text="ST depression under exercise", unit="mm"),
    Concept("slope", "categorical", ("up", "flat", "down"), "exercise", text="slope of the ST segment at peak exercise"),
    Concept("ca", "categorical", ("0", "1", "2", "3"), text="major vessels coloured by fluoroscopy"),
    Concept("thal", "categorical", ("normal", "fixed_defect", "reversable_defect"), text="thallium scan"),
)
CLASSES = ("<50", ">50_1")
COLUMNS = (*NUMBERS, *(f"{name}={state}" for name, states in STATES.items() for state in states))
CARD = DataCard(
    name="heart_cleveland",
    title="Heart disease, Cleveland",
    licence="CC BY 4.0 (from memory)",
    source="UCI Heart Disease, by way of github.com/renatopp/arff-datasets",
    terms="free use with attribution; no medical use",
    citation="Detrano et al.: American Journal of Cardiology 64, 1989",
    notes=f"x holds, in order: {', '.join(COLUMNS)}. Class: narrowing of a vessel below or above 50 %. Five values of "
    "ca and two of thal are unknown. No official split.",
)


@dataset("heart_cleveland", summary="303 patients, 7 findings at rest, 6 test results as concepts, 2 classes (CC BY 4.0)")
def heart_cleveland(
    *,
    path: str | Path | None = None,
    standardise: bool = False,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Heart patients, x float (B, 14): age, blood pressure, cholesterol, and sex, pain, sugar and ECG at rest one-hot.

    Concepts (M = 6, K = 13): maximum heart rate and ST depression continuous, angina binary, ST slope, vessels and
    thallium scan categorical; NaN where unknown. Split by ``seed``, stratified. standardise: mean 0, standard deviation
    1 of train.
    """
    place = packed(path, "heart_cleveland", "tabular/heart_cleveland.csv.gz", CARD.source)
    rows = read_csv(place, "heart_cleveland", (*NUMBERS, *STATES, *SPACE.names, "num"))

    def numbers(name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([number(row[name], place, name, i) for i, row in enumerate(rows)], dtype=np.float32)

    def coded(name: str, states: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return codes([row[name] for row in rows], states, place, name)

    binary = {"exang": ("no", "yes")}
    values = np.stack(
        [
            numbers(concept.name)
            if concept.kind == "continuous"
            else coded(concept.name, concept.states or binary[concept.name])
            for concept in SPACE.concepts
        ],
        axis=1,
    )
    hot = [(coded(name, states)[:, None] == np.arange(len(states))).astype(np.float32) for name, states in STATES.items()]
    x = np.concatenate([np.stack([numbers(name) for name in NUMBERS], 1), *hot], axis=1)
    y, task = torch.from_numpy(coded("num", CLASSES)).long(), Task.classes(CLASSES)
    table = Table(torch.from_numpy(x), c=SPACE.encode(torch.from_numpy(values)), y=y, space=SPACE, task=task)
    marks = draw(y, task, validation=validation, test=test, seed=seed)
    return official(table, marks, name="heart_cleveland", card=CARD, standardise=standardise)
