"""The few transforms that the peers' scripts use: no torchvision can be installed beside this torch. See `bench.peers`."""

from torchvision import transforms

__all__ = ["transforms"]
