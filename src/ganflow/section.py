"""What every section of params.yaml is made from."""

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A section of params.yaml: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def json_text(self) -> str:
        """Sorted JSON: how a section crosses into Kubeflow, where a dict parameter would turn 3 into 3.0."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)
