"""LoRA: low-rank updates of attention's query and value projections (Hu et al. 2022).

W + (alpha / r) B A (arXiv 2106.09685, section 4.1) on Q and on V, each with factors of its own,
through peft. timm keeps Q, K and V in one layer: it is taken apart for training and put together
again afterwards, so that the result is a plain model with the adapters merged. The adapters
themselves are saved beside it. Everything else is frozen.

The code of arXiv 2410.21582 also trains the head, the class token, the position embedding and the
norms; that variant is `also_train: ["head.*", cls_token, pos_embed, "*norm*"]`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.methods._freeze import matching, train_mode_where_trained, train_only
from workers.methods.base import FineTuning, MethodConfig, Workbench

if TYPE_CHECKING:
    from torch import nn

ADAPTERS = "adapters.safetensors"


class LoRAConfig(MethodConfig):
    """Hyper-parameters of LoRA."""

    rank: int = Field(8, ge=1, description="r, the rank of an update")
    alpha: float = Field(1.0, gt=0, description="updates are scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapters' inputs, in training")
    targets: tuple[Literal["q", "k", "v"], ...] = Field(
        ("q", "v"), min_length=1, description="projections that are updated"
    )
    also_train: tuple[str, ...] = Field(
        (), description="shell patterns of parameters to train besides the adapters"
    )


class LoRA(FineTuning):
    """Minimises the cross-entropy over low-rank updates of attention."""

    name: ClassVar[str] = "lora"
    Config: ClassVar[type[MethodConfig]] = LoRAConfig
    config: LoRAConfig

    @classmethod
    def unfit(cls, config: MethodConfig, module: nn.Module) -> str:
        assert isinstance(config, LoRAConfig)
        if find_spec("peft") is None:
            return "it needs peft: pip install 'rib-orchestrator[lora]'"
        from workers.split_qkv import fused_layers

        if not fused_layers(module):
            return "the architecture has no attention that splits into Q, K and V, as ViT's does"
        strays = [p for p in config.also_train if not matching(module, [p])]
        return f"no parameter matches also_train {strays}" if strays else ""

    def start(self, bench: Workbench) -> nn.Module:
        import torch

        from workers.split_qkv import split

        module = split(bench.pretrained())
        torch.manual_seed(bench.seed("lora"))  # peft draws A from the global generator
        return self._with_adapters(module).to(bench.device)

    def _with_adapters(self, module: nn.Module) -> nn.Module:
        from peft import LoraConfig, inject_adapter_in_model

        projections = "|".join(self.config.targets)
        settings = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.alpha,  # type: ignore[arg-type]  # any number will do
            lora_dropout=self.config.dropout,
            target_modules=rf".*\.qkv\.({projections})",
        )
        adapted: nn.Module = inject_adapter_in_model(settings, module)
        return adapted

    def prepare(self, module: nn.Module, bench: Workbench) -> None:
        self.bench = bench
        adapters = [name for name, _ in module.named_parameters() if ".lora_" in name]
        train_only(module, [*adapters, *matching(module, self.config.also_train)])

    def set_mode(self, module: nn.Module) -> None:
        train_mode_where_trained(module)
        for name, submodule in module.named_modules():
            if name.endswith(".lora_dropout"):
                submodule.train()

    def finish(self, module: nn.Module) -> nn.Module:
        from workers.split_qkv import fuse

        state = module.state_dict()
        self.bench.save(ADAPTERS, {name: t for name, t in state.items() if ".lora_" in name})
        return fuse(merged(module))


def merged(module: nn.Module) -> nn.Module:
    """Replace every layer with an adapter by a plain one with the update added, in place."""
    from peft.tuners.lora import LoraLayer

    for name, submodule in list(module.named_modules()):
        if isinstance(submodule, LoraLayer):
            submodule.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, submodule.get_base_layer())
    return module
