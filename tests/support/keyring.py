"""API keys for a test: a key file, and the settings of a gateway and a client that use it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from glitchflow_api.key_file import Keys, change_keys, make_key
from gwwire.public import Scope


@dataclass(frozen=True)
class Keyring:
    """A key file at `path`, made with the first key."""

    path: Path

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a gateway that accepts these keys."""
        return {"AUTH": "keys", "KEYS_FILE": str(self.path)}

    def make(self, name: str, *scopes: Scope, group: str | None = None) -> str:
        """Create a key and return it."""
        key, record = make_key(name, list(scopes), group=group)
        change_keys(self.path, lambda keys: keys.update({record.id: record}))
        return key

    def make_file(self, name: str, *scopes: Scope) -> Path:
        """Create a key and return the file with it."""
        path = self.path.with_name(f"{name}.key")
        path.write_text(self.make(name, *scopes) + "\n")
        return path

    def change(self, key: str, *, expires: datetime | None = None, revoked: datetime | None = None) -> None:
        """Revoke a key."""

        def end(keys: Keys) -> None:
            keys[key[3:15]] = msgspec.structs.replace(keys[key[3:15]], expires=expires, revoked=revoked)

        change_keys(self.path, end)
