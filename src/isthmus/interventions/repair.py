"""Repairs of what an audit finds: each returns a new model and a history entry with reason and measured effect.

A few rows of a new domain (``adapt``), forgetting a class (``forget``, ``forgotten``), removing a concept, recalibrating one,
pinning a head weight.
"""

from isthmus.interventions.adapt import adapt
from isthmus.interventions.edit import remove
from isthmus.interventions.forget import attributions, class_concepts, forget, forgotten
from isthmus.interventions.pin import pin
from isthmus.interventions.recalibrate import recalibrate

__all__ = ["adapt", "attributions", "class_concepts", "forget", "forgotten", "pin", "recalibrate", "remove"]
