"""Repairs of what an audit finds: each returns a new model and an entry in its history, with the reason and the measured effect.

A few rows of a new domain (``adapt``), forgetting a class (``forget``, ``forgotten``), removing a concept, recalibrating one,
pinning a head weight.
"""

from isthmus.interventions.adapt import adapt
from isthmus.interventions.edit import remove
from isthmus.interventions.forget import attributions, class_concepts, forget, forgotten
from isthmus.interventions.recalibrate import pin, recalibrate

__all__ = ["adapt", "attributions", "class_concepts", "forget", "forgotten", "pin", "recalibrate", "remove"]
