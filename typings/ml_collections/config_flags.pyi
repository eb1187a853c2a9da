from typing import Any

from absl import flags
from ml_collections import ConfigDict

def DEFINE_config_file(
    name: str, default: str | None = None, help_string: str = "", **keywords: Any
) -> flags.FlagHolder[ConfigDict]: ...
def get_config_filename(config_flag: object) -> str: ...
def get_override_values(config_flag: object) -> dict[str, Any]: ...
