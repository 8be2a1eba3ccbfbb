"""The demonstration: the main job on real input, told step by step. It needs the packages of `epistream[cli]`."""
