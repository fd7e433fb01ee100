import echosdk
import torch
from attrs import define, field
from attrs.validators import ge, le


@define
class MaxCorrelation:
    percentile: float = field(default=5.0, validator=[ge(0), le(100)])
    _train: torch.Tensor | None = field(init=False, default=None)
    _tau: float = field(init=False, default=float("nan"))
    space = "latent"

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        self._train = _standardise(train.items)
        self._tau = torch.quantile(self._nearest(holdout.items), self.percentile / 100).item()

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        distance = self._nearest(stills)
        return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    def _nearest(self, stills: torch.Tensor) -> torch.Tensor:
        return 1 - (_standardise(stills) @ self._train.T).amax(1)


def _standardise(items: torch.Tensor) -> torch.Tensor:
    rows = items.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True)


@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(name="max-correlation", build=MaxCorrelation, summary="Correlation of latents.")
