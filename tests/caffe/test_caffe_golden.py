"""The released networks through our prototxt files: CaffeNet and OpenCV against runs of Caffe itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.errors import UserError

REFERENCE = Path(__file__).parents[2] / "protos_reference"
NETS = {
    "mpii": "mpii_6stage",
    "flic": "flic_4stage",
    "vgg": "mpii_vgg_6stage",
    "person": "person_4stage",
}
BOUND = 1e-4  # of each map's range; worst measured: CaffeNet 6.6e-6, OpenCV 1.1e-5


def seeded_weights(net: CaffeNet, seed: int, gain: float = 1.0) -> dict[str, list[np.ndarray]]:
    """The golden files' weights (their README's rule)."""
    weights = {}
    for index, (name, (weight, bias)) in enumerate(net.weights().items()):
        rng = np.random.RandomState(1000 + index + seed * 100_000)
        fan_in = np.prod(weight.shape[1:])
        weights[name] = [
            (rng.randn(*weight.shape) * np.sqrt(2 / fan_in) * gain).astype(np.float32),
            (rng.randn(*bias.shape) * 0.05).astype(np.float32),
        ]
    return weights


class Case(NamedTuple):
    """A released network with the golden weights, and the files that tell it to other programs."""

    name: str
    net: CaffeNet
    deploy: Path
    model: Path

    def stored(self) -> dict[str, np.ndarray]:
        """The golden arrays, once they are seen to be of these weights."""
        arrays = dict(np.load(golden(f"forward_{self.name}.npz")))
        weights = self.net.weights()
        for i, name in enumerate(arrays["param_layers"]):
            np.testing.assert_array_equal(weights[name][0].reshape(-1)[:4], arrays["param_first4"][i])
            assert weights[name][0].shape == tuple(arrays["param_shapes"][i])
        return arrays


@pytest.fixture(scope="module", params=NETS)
def case(request, tmp_path_factory):
    deploy = REFERENCE / NETS[request.param] / "pose_deploy.prototxt"
    net = CaffeNet(deploy)
    net.load(seeded_weights(net, seed=7))
    model = tmp_path_factory.mktemp("model") / "x.caffemodel"
    net.save(model)
    return Case(request.param, net, deploy, model)


def test_odd_sizes_of_caffe_net_and_opencv(case):
    """121x105 and 125x99, every stage, from the arrays that come with the tests."""
    stored = np.load(golden("forward_odd_sizes.npz"))
    shape, seed = tuple(stored[f"{case.name}_input_shape"]), int(stored[f"{case.name}_seed"])
    assert seed == 7
    u = np.random.RandomState(seed + 1).randint(0, 256, size=shape)
    data = ((u - np.array([128, 128, 128, 0][: shape[1]]).reshape(1, -1, 1, 1)) / 256).astype(np.float32)
    blobs = [key.removeprefix(f"{case.name}_") for key in stored.files if key.startswith(f"{case.name}_")]
    blobs = [blob for blob in blobs if blob in {layer.name for layer, _ in case.net.steps()}]
    assert len(blobs) == int(NETS[case.name].split("_")[-1][0])
    with torch.no_grad():
        ours = case.net(blobs, **{next(iter(case.net.inputs)): data})
    other = cv2.dnn.readNetFromCaffe(str(case.deploy), str(case.model))
    other.setInput(data)
    for blob, theirs in zip(blobs, other.forward(blobs), strict=True):
        want = stored[f"{case.name}_{blob}"]
        assert worst(ours[blob].numpy(), want) <= BOUND
        assert worst(theirs, want) <= BOUND


def worst(got: np.ndarray, want: np.ndarray) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.ptp(want))


@pytest.mark.parametrize("which", [0, 1])
def test_caffe_net_against_golden_forward(case, which):
    stored, net = case.stored(), case.net
    prefix = f"case{which}_"
    with torch.no_grad():
        blobs = net(**{str(stored["input_blob"]): stored[f"{prefix}input"]})
    errors = {}
    for key, want in stored.items():
        if key.startswith((f"{prefix}belief_", f"{prefix}feat8_")):
            name = key.removeprefix(prefix).split("_", 1)[1]
            errors[name] = worst(blobs[name].numpy()[:, : want.shape[1]], want)
        elif key == f"{prefix}pool_center_lower":
            errors[key] = worst(blobs["pool_center_lower"].numpy(), want)
    assert len(errors) > 4
    assert max(errors.values()) <= BOUND, errors


@pytest.mark.parametrize("which", [0, 1])
def test_opencv_with_our_files_against_golden_forward(case, which):
    stored = case.stored()
    net = cv2.dnn.readNetFromCaffe(str(case.deploy), str(case.model))
    net.setInput(stored[f"case{which}_input"])
    names = [str(name) for name in stored["belief_blobs"]]
    for name, got in zip(names, net.forward(names), strict=True):
        assert worst(got, stored[f"case{which}_belief_{name}"]) <= BOUND


def test_accepted_sizes(case):
    """Sizes 96..111: CaffeNet refuses exactly those on which Caffe aborts, naming the layer."""
    accepted = json.loads(golden("accepted_sizes.json").read_text())[case.name]
    blob, shape = next(iter(case.net.inputs.items()))
    meta = CaffeNet(case.deploy).to("meta")
    for size in range(96, 112):
        data = torch.empty(1, shape[1], size, size, device="meta")
        if size in accepted:
            meta(**{blob: data})
        else:
            with pytest.raises(UserError, match="layer 'concat_stage2': bottoms must agree"):
                meta(**{blob: data})


def test_training_net_has_the_golden_first_losses():
    """All six losses of the first training step: label halves, wiring and loss units (dropout off)."""
    stored = dict(np.load(golden("solver.npz")))
    net = CaffeNet(REFERENCE / "mpii_6stage" / "pose_train_test.prototxt", "TEST")
    seed = int(stored["seed"])
    net.load(seeded_weights(net, seed, float(stored["gain"])))
    rng = np.random.RandomState(seed * 1000)
    u = rng.randint(0, 256, size=(2, 4, 96, 96))
    data = ((u - np.array([128, 128, 128, 0]).reshape(1, 4, 1, 1)) / 256).astype(np.float32)
    label = rng.random_sample((2, 30, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(data.reshape(-1)[:8], stored["batch0_data_first8"])
    np.testing.assert_array_equal(label.reshape(-1)[:8], stored["batch0_label_first8"])
    with torch.no_grad():
        blobs = net(data=data, label=label)
    losses = [blobs[str(name)].item() for name in stored["loss_names"]]
    np.testing.assert_allclose(losses, stored["recipe_loss"][0, 0], rtol=2e-6)  # measured 1.7e-7
    groups = {group["name"].replace(".", "/"): group for group in net.param_groups()}
    for name, (lr, decay) in zip(stored["blob_names"], stored["lr_decay_mult"], strict=True):
        assert (groups[name]["lr_mult"], groups[name]["decay_mult"]) == (lr, decay)
