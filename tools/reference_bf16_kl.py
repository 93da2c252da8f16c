#!/usr/bin/env python3
"""reference_bf16_kl.py GOLDEN_DIR...: mean KL(golden || transformers in bfloat16) over all prompt positions, the yardstick for our own
bfloat16 runs on tiny random models. Needs torch and transformers 5 (not part of the tests)."""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
for arg in sys.argv[1:]:
    directory = pathlib.Path(arg)
    golden = json.loads((directory / "golden.json").read_text())
    want = load_file(directory / "golden.safetensors")
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="eager").eval()
    total, rows = 0.0, 0
    for i, prompt in enumerate(golden["prompts"]):
        with torch.no_grad():
            got = model(torch.tensor([prompt])).logits[0].float().log_softmax(-1)
        p = want[f"logits.{i}"].log_softmax(-1)
        total += (p.exp() * (p - got)).sum().item()
        rows += len(prompt)
    print(f"{directory.name}: mean KL {total / rows:.3e}", flush=True)
