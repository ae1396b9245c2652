"""The training runs of `solver.npz` made again, and how far each stored number is missed.

Run as a program it prints that as JSON: ``python solver_golden.py FILE RUN OPTIMIZER CONVOLUTION``.
``caffe`` for OPTIMIZER is CaffeSGD, ``torch`` is torch.optim.SGD; for CONVOLUTION ``caffe`` is an im2col and
OpenBLAS's sgemm through NumPy, as Caffe computes it on a CPU, ``torch`` is PyTorch's own.

Why the convolution matters: some pooling windows of these runs hold two values that differ by 4e-9, and a few
ReLUs see values as small. Which way such a switch falls is decided by the order in which a sum of 10,000
products was rounded; each fallen switch moves a gradient by 1e-5 to 1e-2. With the order of OpenBLAS's AVX2
kernel (``OPENBLAS_CORETYPE=Haswell``) all of them fall as they did in the original.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cpm_repro.caffe.lr_policy import LrPolicy
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.model import build

RUNS = {  # base_lr, iterations, iter_size, weight_decay: golden/README.md
    "recipe": (8e-5, 6, 1, 5e-4),
    "larger": (2e-4, 6, 1, 5e-4),
    "itersize2": (1e-4, 4, 2, 5e-4),
    "decay": (8e-5, 4, 1, 1.0),
}
LIMITS = {"lr": 1e-12, "loss": 1e-5, "norm": 3e-4, "value": 5e-3}
"""What may be asked: rates, losses and norms relative, single values of the blob's largest."""


class _CaffeConvolution(torch.autograd.Function):
    """Forward as Caffe's CPU layer: im2col, one sgemm per image, bias added after; backward is PyTorch's."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        side = weight.shape[-1]
        matrix = weight.detach().reshape(len(weight), -1).numpy()
        columns = F.unfold(x.detach(), side, padding=side // 2).numpy()
        out = np.stack([np.dot(matrix, column) for column in columns]) + bias.detach().numpy()[:, None]
        return torch.from_numpy(out.reshape(len(x), len(weight), *x.shape[2:]))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        pad = [weight.shape[-1] // 2] * 2
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [1, 1], pad, [1, 1], False, [0, 0], 1, [True] * 3
        )


class CaffeConv2d(nn.Conv2d):
    """A square convolution that keeps the size, computed as Caffe does."""

    def forward(self, x):
        return _CaffeConvolution.apply(x, self.weight, self.bias)


def golden_network(z, convolution="torch"):
    """The six-stage network with the golden rule's weights; no dropout, as the golden runs had none."""
    net = build("mpii_6stage").eval()
    for index, layer in enumerate(net.description.convolutions):
        rng = np.random.RandomState(1000 + index + int(z["seed"]) * 100000)
        module = getattr(net, layer.name)
        shape = tuple(module.weight.shape)
        weight = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:])) * float(z["gain"])
        module.weight.data = torch.from_numpy(weight.astype(np.float32))
        module.bias.data = torch.from_numpy((rng.randn(shape[0]) * 0.05).astype(np.float32))
        if convolution == "caffe":
            module.__class__ = CaffeConv2d
    return net


def golden_batch(z, k):
    rng = np.random.RandomState(int(z["seed"]) * 1000 + k)
    u = rng.randint(0, 256, size=(2, 4, 96, 96))
    offset = np.array([128, 128, 128, 0]).reshape(1, 4, 1, 1)
    data = ((u - offset) / 256).astype(np.float32)
    label = rng.random_sample((2, 30, 12, 12)).astype(np.float32)
    return torch.from_numpy(data), torch.from_numpy(label)


class Run:
    """One run, its optimiser, and the largest deviations met so far by kind of number."""

    def __init__(self, path, name, optimizer="caffe", convolution="torch"):
        self.z, self.name = np.load(path), name
        self.base_lr, self.iterations, self.iter_size, self.decay = RUNS[name]
        self.net = golden_network(self.z, convolution)
        blobs = [str(blob) for blob in self.z["blob_names"]]
        weights = dict(self.net.named_parameters())
        self.weights = [weights[blob.replace("/", ".")] for blob in blobs]
        self.blobs = blobs
        groups = [
            {"params": [weight], "lr_mult": float(lr), "decay_mult": float(decay)}
            for weight, (lr, decay) in zip(self.weights, self.z["lr_decay_mult"], strict=True)
        ]
        self.is_torch = optimizer == "torch"
        self.optimizer = self._torch(groups) if self.is_torch else self._caffe(groups)
        self.worst = dict.fromkeys(LIMITS, 0.0)
        self.policy = LrPolicy("step", self.base_lr, gamma=0.333, stepsize=2)

    def _caffe(self, groups):
        settings = {"momentum": 0.9, "weight_decay": self.decay, "iter_size": self.iter_size}
        return CaffeSGD(groups, lr=self.base_lr, **settings)

    def _torch(self, groups):
        for group in groups:
            group["weight_decay"] = self.decay * group["decay_mult"]
        return torch.optim.SGD(groups, lr=self.base_lr, momentum=0.9)

    def all(self):
        for t in range(self.iterations):
            self.iteration(t)
        self._final()
        return self.worst

    def iteration(self, t):
        lr = self.policy(t)
        self._see("lr", lr, self._stored("lr")[t])
        self.optimizer.zero_grad()
        for part in range(self.iter_size):
            data, label = golden_batch(self.z, t * self.iter_size + part)
            losses = [
                ((maps - (label[:, 15:] if stage == 0 else label[:, :15])) ** 2).sum() / 4
                for stage, maps in enumerate(self.net(data))
            ]
            self._see("loss", [loss.item() for loss in losses], self._stored("loss")[t, part])
            sum(losses).backward()
        gradients = [weight.grad.clone() for weight in self.weights]
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_mult"] if self.is_torch else lr
            if self.is_torch:
                group["params"][0].grad /= self.iter_size
        self.optimizer.step()
        self._compare(t, {"grad": gradients, "param": self.weights, "hist": self.history(lr)})

    def history(self, lr):
        """Momentum in Caffe's units: torch.optim.SGD's buffer holds no rate."""
        buffers = [self.optimizer.state[weight]["momentum_buffer"] for weight in self.weights]
        if not self.is_torch:
            return buffers
        return [b * lr * float(m) for b, (m, _) in zip(buffers, self.z["lr_decay_mult"], strict=True)]

    def _compare(self, t, arrays):
        for kind, blobs in arrays.items():
            norms = [blob.detach().double().norm().item() for blob in blobs]
            self._see("norm", norms, self._stored(f"{kind}_l2")[t])
            for blob, stored in zip(blobs, self._stored(f"{kind}_first8")[t], strict=True):
                self._see_values(blob, stored[~np.isnan(stored)])

    def _final(self):
        for index, blob in enumerate(self.blobs):
            layer, kind = blob.split("/")
            key = f"{self.name}_final_{kind}_{layer}"
            if key in self.z:
                self._see_values(self.weights[index], self.z[key].ravel())
            if kind == "weight" and (key := f"{self.name}_final_hist_weight_{layer}") in self.z:
                self._see_values(self.history(self.policy(self.iterations - 1))[index], self.z[key].ravel())

    def _stored(self, key):
        return self.z[f"{self.name}_{key}"]

    def _see(self, kind, got, stored):
        deviation = np.max(np.abs(np.asarray(got) - stored) / np.abs(stored))
        self.worst[kind] = max(self.worst[kind], float(deviation))

    def _see_values(self, blob, stored):
        got = blob.detach().reshape(-1)[: len(stored)].numpy()
        # the blob's largest value: the stored ones are but its first, and may all be close to zero
        largest = float(blob.detach().abs().max())
        self.worst["value"] = max(self.worst["value"], float(np.abs(got - stored).max() / largest))


if __name__ == "__main__":
    path, name, optimizer, convolution = sys.argv[1:]
    print(json.dumps(Run(Path(path), name, optimizer, convolution).all()))
