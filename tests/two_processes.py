"""The command line of training, whose every process leaves what it has at some step and at the end.

python two_processes.py FOLDER STEP train RECIPE ...
"""

import sys
from pathlib import Path

from safetensors.torch import save_file

from emgcodec.cli import main
from emgcodec.train.loop import Training

folder, step = Path(sys.argv[1]), int(sys.argv[2])
learn, run = Training._learn, Training.run


def leave(training: Training, name: str) -> None:
    tensors = {k: t.clone() for k, t in training.codec.state_dict().items()}
    if training.codec.quantizer is not None:
        state = training.codec.quantizer.training_state()
        tensors |= {f"trainer.{k}": t.clone() for k, t in state.items()}
    save_file(tensors, folder / f"{name}-{training.fabric.global_rank}.safetensors")


def learn_and_leave(self: Training, *args: object) -> object:
    if self.step == step:
        leave(self, "early")
    return learn(self, *args)


def run_and_leave(self: Training) -> bool:
    finished = run(self)
    leave(self, "late")
    return finished


Training._learn, Training.run = learn_and_leave, run_and_leave
sys.exit(main(sys.argv[3:]))
