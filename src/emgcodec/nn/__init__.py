"""The parts of a codec: `kind` in the config names them, a dict beside the classes finds them.

Every stateful part has `init_state(...) -> dict[str, Tensor]`, batch first, and a forward that
takes a state and returns the next one; a whole recording is that step over blocks.
"""
