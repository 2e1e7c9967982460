"""The base class of every section of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class SettingsBase(BaseModel):
    """Part of a recipe: immutable, unknown keys refused, NaN and infinity too.

    Attributes:
        omitted: keys that a dump leaves out where they have their defaults: Fovea before them refuses a recipe that
            names them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    omitted: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _omit(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        unsaid = {
            key for key in self.omitted if getattr(self, key) == fields[key].get_default(call_default_factory=True)
        }
        return {key: value for key, value in document.items() if key not in unsaid}

    def __eq__(self, other: object) -> bool:
        """Compare settings alone, without where they were read."""
        return type(self) is type(other) and self.__dict__ == other.__dict__
