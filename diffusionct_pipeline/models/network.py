"""Define the base class of the networks: a model of diffusers whose configuration is saved with its weights."""

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin


class Network(ModelMixin, ConfigMixin):  # type: ignore[misc]  # ConfigMixin declares its `config_name` as None
    """Save and load a network as diffusers does.

    Attributes:
        _keep_in_fp32_modules: Names of weights, or of modules, that stay float32 in half precision.
    """

    _keep_in_fp32_modules: list[str] | None = None  # type: ignore[assignment]  # ModelMixin declares None
