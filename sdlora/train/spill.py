"""A GPU's memory that spills into the machine's: on Windows and WSL without an error, each step then takes up to 100 times as long."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

import torch

from sdlora.core.events import Warned

FACTOR = 10.0  # times the median; spilled steps took 20 to 100 times as long (bmaltais/kohya_ss issues 1524 and 1730)
SLOW_STEPS = 3  # in a row: encoding the pictures of one step may be slow too
MIN_STEPS, WINDOW = 5, 50  # that the median is of


@dataclass
class SpillWatch:
    """Asked after each step; answers once at most."""

    device: torch.device
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    slow: int = 0  # in a row
    told: bool = False

    def after_step(self, seconds: float) -> Warned | None:
        """The warning, where steps became slow and this process holds more of the GPU than is free."""
        if self.device.type != "cuda" or self.told:
            return None
        is_slow = len(self.seconds) >= MIN_STEPS and seconds > FACTOR * statistics.median(self.seconds)
        self.slow = self.slow + 1 if is_slow else 0
        if not is_slow:
            self.seconds.append(seconds)
        if self.slow < SLOW_STEPS or torch.cuda.memory_reserved(self.device) <= torch.cuda.mem_get_info(self.device)[0]:
            return None
        self.told = True
        return Warned(
            "memory",
            "Steps take more than 10 times as long as before, and the GPU's memory is nearly full: it may spill into the machine's memory. Close what else uses the GPU, turn gradient checkpointing on, or lower the batch size or the resolution.",
            "1 ステップの時間が 10 倍以上に延び、GPU メモリもほぼ埋まっています。メインメモリへあふれている可能性があります。GPU を使う他のプログラムを閉じるか、勾配チェックポイントをオンにするか、バッチサイズか解像度を下げてください。",
        )
