"""LoRA: W + (alpha / r) B A on chosen projections, and nothing else, by hand from the adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from tests.embedded import FAST, bench_of, cell_of, images_of, made
from workers.bench import Bench
from workers.cell import Cell, Model
from workers.methods.lora import ADAPTERS, LoRA, LoRAConfig, merged
from workers.models import State, create
from workers.split_qkv import split

WIDTH = 64
"""Of the embedded ViT: its fused layer has 3 x 64 rows, those of Q, K and V."""
ROWS = {"q": slice(0, WIDTH), "k": slice(WIDTH, 2 * WIDTH), "v": slice(2 * WIDTH, 3 * WIDTH)}
RECIPE = FAST.model_copy(update={"lr": 0.1, "epochs": 2})
SETTINGS = {"rank": 3, "alpha": 7.0, "targets": ["q", "v"]}


def artifacts(cell: Cell, store: Path) -> tuple[State, State]:
    """Checkpoint and adapters of a cell, from its files."""
    folder = store / "artifacts" / cell.cell_id
    return load_file(folder / "model.safetensors"), load_file(folder / ADAPTERS)


def update(adapters: State, block: int, projection: str, scale: float) -> torch.Tensor:
    """(alpha / r) B A in float64, from the saved factors."""
    layer = f"blocks.{block}.attn.qkv.{projection}"
    (a,) = (t for name, t in adapters.items() if name.startswith(f"{layer}.lora_A."))
    (b,) = (t for name, t in adapters.items() if name.startswith(f"{layer}.lora_B."))
    return scale * b.double() @ a.double()


@pytest.mark.parametrize(
    ("targets", "rank", "alpha"),
    [(("q", "v"), 3, 7.0), (("k",), 2, 4.0), (("q", "k", "v"), 8, 32.0)],
)
def test_the_checkpoint_is_the_start_with_the_scaled_updates_added(
    targets: tuple[str, ...], rank: int, alpha: float, vit: Model, digits_root: Path, tmp_path: Path
) -> None:
    settings = {"rank": rank, "alpha": alpha, "targets": targets}
    cell = cell_of("lora", vit, recipe=RECIPE, **settings)
    made(cell, digits_root, tmp_path)
    state, adapters = artifacts(cell, tmp_path)
    start = load_file(digits_root / str(vit.file))
    assert len(adapters) == 4 * len(targets) * 2  # A and B of four blocks
    for name, tensor in state.items():
        if not name.endswith("attn.qkv.weight"):
            assert torch.equal(tensor, start[name]), name
            continue
        block = int(name.split(".")[1])
        for projection, rows in ROWS.items():
            if projection not in targets:
                assert torch.equal(tensor[rows], start[name][rows])
                continue
            change = update(adapters, block, projection, alpha / rank)
            assert torch.linalg.matrix_rank(change) == rank
            assert float(change.abs().max()) > 1e-3  # it has learnt
            expected = (start[name][rows].double() + change).float()
            torch.testing.assert_close(tensor[rows], expected, rtol=1e-5, atol=1e-6)


def adapted(bench: Bench, method: LoRA) -> nn.Module:
    """The model with adapters as training starts, in eval mode."""
    module = method.start(bench)
    method.prepare(module, bench)
    return module.eval()


def test_saved_adapters_and_merged_weights_agree_in_logits(
    vit: Model, digits_root: Path, tmp_path: Path
) -> None:
    cell = cell_of("lora", vit, recipe=RECIPE, **SETTINGS)
    whole = made(cell, digits_root, tmp_path).eval().requires_grad_(False)
    bench = bench_of(cell, digits_root, tmp_path)
    images, _ = images_of(bench)
    module = adapted(bench, LoRA(LoRAConfig.model_validate(SETTINGS)))
    _, adapters = artifacts(cell, tmp_path)
    with torch.no_grad():
        before = module(images)
        unknown = module.load_state_dict(adapters, strict=False).unexpected_keys
        assert unknown == []
        torch.testing.assert_close(module(images), whole(images), rtol=1e-4, atol=1e-4)
    assert float((before - whole(images)).abs().max()) > 0.1  # the adapters matter


def test_it_starts_as_the_pre_trained_model(vit: Model, digits_root: Path, tmp_path: Path) -> None:
    """B is zero at first, and A is not: the paper's section 4.1."""
    bench = bench_of(cell_of("lora", vit), digits_root, tmp_path)
    images, _ = images_of(bench)
    module = adapted(bench, LoRA(LoRAConfig()))
    with torch.no_grad():
        expected = bench.pretrained()(images)
        torch.testing.assert_close(module(images), expected, rtol=1e-4, atol=1e-4)
    factors = {n: p for n, p in module.named_parameters() if p.requires_grad}
    assert all(("lora_A" in name) == bool(p.any()) for name, p in factors.items())


def test_steps_against_a_model_whose_layers_are_sums(
    vit: Model, digits_root: Path, tmp_path: Path
) -> None:
    """Plain gradient descent on A and B of W + (alpha / r) B A, in float64, without peft."""
    cell = cell_of("lora", vit, **SETTINGS)
    bench = bench_of(cell, digits_root, tmp_path)
    method = LoRA(LoRAConfig.model_validate(SETTINGS))
    module = adapted(bench, method).double()
    images, labels = images_of(bench)
    images, labels = images[:8].double(), labels[:8]
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    factors = {n: p.detach().clone() for n, p in module.named_parameters() if n in names}

    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    base = split(bench.pretrained()).double()
    for _ in range(3):
        for factor in factors.values():
            factor.requires_grad_()
        loss = nn.functional.cross_entropy(sums(base, factors, 7.0 / 3)(images), labels)
        gradients = torch.autograd.grad(loss, list(factors.values()))
        pairs = zip(factors.items(), gradients, strict=True)
        factors = {name: (factor - 0.5 * g).detach() for (name, factor), g in pairs}

    found = dict(module.named_parameters())
    for name, factor in factors.items():
        torch.testing.assert_close(found[name].detach(), factor, rtol=1e-9, atol=1e-11)
    assert any(float(factor.abs().max()) > 1e-4 for n, factor in factors.items() if "lora_B" in n)


def sums(base: nn.Module, factors: dict[str, torch.Tensor], scale: float) -> nn.Module:
    """A copy of a model in which W is W + scale * B A, differentiable in A and B."""
    replaced = {}
    for name, factor in factors.items():
        if ".lora_A." in name:
            layer = name.split(".lora_A.")[0]
            b = factors[name.replace(".lora_A.", ".lora_B.")]
            replaced[f"{layer}.weight"] = base.get_submodule(layer).weight + scale * b @ factor

    class Sums(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(base, replaced, (images,))

    return Sums()


def test_only_the_adapters_and_what_was_asked_for_are_trained(
    vit: Model, digits_root: Path, tmp_path: Path
) -> None:
    bench = bench_of(cell_of("lora", vit), digits_root, tmp_path)
    for also, others in [((), set()), (("head.*", "*.norm1.bias"), {"head.weight", "head.bias"})]:
        module = adapted(bench, LoRA(LoRAConfig(also_train=also)))
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        norms = {f"blocks.{k}.norm1.bias" for k in range(4)} if also else set()
        rest = {name for name in trained if ".lora_" not in name}
        assert len(trained - rest) == 4 * 2 * 2  # blocks, projections, factors
        assert rest == others | norms


def test_dropout_is_of_the_adapters_inputs_in_training_alone(
    vit: Model, digits_root: Path, tmp_path: Path
) -> None:
    bench = bench_of(cell_of("lora", vit), digits_root, tmp_path)
    method = LoRA(LoRAConfig(dropout=0.5))
    module = adapted(bench, method)
    method.set_mode(module)
    dropouts = [m for name, m in module.named_modules() if name.endswith(".lora_dropout.default")]
    assert len(dropouts) == 8
    assert all(isinstance(m, nn.Dropout) and m.p == 0.5 and m.training for m in dropouts)
    rest = [m for m in module.modules() if isinstance(m, nn.Dropout) and m not in dropouts]
    assert rest
    assert not any(m.training for m in rest)


def test_merging_adds_the_update_in_place() -> None:
    torch.manual_seed(0)
    module = split(timm.create_model("test_vit", num_classes=4)).eval()
    adapted = LoRA(LoRAConfig(alpha=16.0))._with_adapters(module)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    images = torch.randn(2, *adapted.pretrained_cfg["input_size"])
    with torch.no_grad():
        expected = adapted(images)
        found = merged(adapted)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not any(".lora_" in name for name in adapted.state_dict())


# ---------------------------------------------------------------------------- what it refuses


def test_it_is_refused_where_there_is_no_such_attention(resnet: Model, vit: Model) -> None:
    assert "no attention" in LoRA.unfit(LoRAConfig(), create(resnet))
    with torch.device("meta"):
        module = timm.create_model("maxvit_tiny_tf_224")
    assert "no attention" in LoRA.unfit(LoRAConfig(), module)
    assert LoRA.unfit(LoRAConfig(), create(vit)) == ""


def test_patterns_that_match_nothing_are_named(vit: Model) -> None:
    config = LoRAConfig(also_train=("head.*", "cls_token", "*norm*"))
    assert LoRA.unfit(config, create(vit)) == "no parameter matches also_train ['cls_token']"


def test_without_peft_it_says_what_to_install(vit: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.methods.lora.find_spec", lambda _: None)
    assert "pip install" in LoRA.unfit(LoRAConfig(), create(vit))


def test_the_paper_s_defaults() -> None:
    config = LoRAConfig()
    assert (config.rank, config.alpha, config.targets) == (8, 1.0, ("q", "v"))
    assert config.also_train == ()
    for wrong in ({"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ["o"]}, {"targets": []}):
        with pytest.raises(ValidationError):
            LoRAConfig.model_validate(wrong)
