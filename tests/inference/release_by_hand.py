"""The release's test procedure written down step by step in numpy float64, for tests alone.

Made from the specification (spec `inference.md`) and of nothing of the package: MATLAB's imresize as dense
matrices, padding pixel by pixel, a network layer by layer, the chain of step 4 with every step stored.
"""

import math

import numpy as np

MULTIPLIERS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)


def keys_cubic(x):
    """The cubic kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def resize_matrix(length, wanted, scale):
    """(wanted, length) matrix of one axis."""
    stretch = min(scale, 1.0)
    u = np.arange(1, wanted + 1)[:, None] / scale + 0.5 * (1 - 1 / scale)
    reach = 2 / stretch
    index = np.floor(u - reach) + np.arange(math.ceil(2 * reach) + 3)  # 1-based; more than the kernel covers
    weight = stretch * keys_cubic(stretch * (u - index))
    weight /= weight.sum(axis=1, keepdims=True)
    index = (index.astype(int) - 1) % (2 * length)
    index = np.where(index < length, index, 2 * length - 1 - index)  # mirrored, the edge pixel twice
    matrix = np.zeros((wanted, length))
    np.add.at(matrix, (np.arange(wanted)[:, None], index), weight)
    return matrix


def resize_axis(image, axis, wanted, scale):
    """One axis of (H, W, C) float64."""
    matrix = resize_matrix(image.shape[axis], wanted, scale)
    return np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)


def imresize(image, size, scales, eight_bit):
    """(H, W, C) float64 to ``size``; the axis with the smaller scale first, rows first when equal."""
    for axis in sorted((0, 1), key=lambda a: scales[a]):
        image = resize_axis(image, axis, size[axis], scales[axis])
        if eight_bit:
            image = np.clip(np.rint(image), 0, 255)
    return image


def undecided(image, size, scale):
    """Where an 8-bit result hangs on the order in which its terms are added.

    A weighted sum of pixels may lie half-way between two levels, as many do where the scale is a simple
    fraction; its last bit then decides how it is rounded, in either pass.
    """
    between = resize_axis(image, 0, size[0], scale)
    open_rows = np.abs(between - np.floor(between) - 0.5) < 1e-9
    after = resize_axis(np.clip(np.rint(between), 0, 255), 1, size[1], scale)
    seen = np.abs(resize_matrix(image.shape[1], size[1], scale)) > 1e-12
    touched = np.moveaxis(np.tensordot(seen.astype(float), open_rows.astype(float), axes=(1, 1)), 0, 1) > 0
    return touched | (np.abs(after - np.floor(after) - 0.5) < 1e-9)


def matlab_round(value):
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def padded(image, center, scale):
    """The scaled image in its 368 px box, the pads and the size; ``center`` is 1-based x, y."""
    size = [math.ceil(scale * side) for side in image.shape[:2]]
    small = imresize(image.astype(np.float64), size, (scale, scale), True)
    cx, cy = (matlab_round(value * scale) for value in center)
    pads = [184 - cy, 184 - cx, 184 - (size[0] - cy), 184 - (size[1] - cx)]
    return in_box(small, pads, 128), pads, size


def in_box(small, pads, border):
    """(h, w, C) with its pads added or cut off."""
    for axis, (before, after) in enumerate(((pads[0], pads[2]), (pads[1], pads[3]))):
        widths = [(0, 0)] * 3
        widths[axis] = (max(before, 0), max(after, 0))
        small = np.pad(small, widths, constant_values=border)
        small = np.delete(small, np.s_[: max(-before, 0)], axis)
        small = np.delete(small, np.s_[small.shape[axis] - max(-after, 0) :], axis)
    assert small.shape == (368, 368, 3)
    return small


def net_input(box):
    """(4, 368, 368): pixels around zero and the centre map of the test programs."""
    grid = np.arange(1, 369) - 184.0  # MATLAB's grid, 1-based
    center = np.exp(-(grid[:, None] ** 2 + grid**2) / 2 / 21**2)
    return np.concatenate([np.moveaxis(box, 2, 0) / 256 - 0.5, center[None]])


def convolution(x, weight, bias, pad):
    """(C, H, W) with (O, C, k, k), stride 1, float64."""
    kernel = weight.shape[2]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height, width = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    total = np.zeros((len(weight), height, width))
    for i in range(kernel):
        for j in range(kernel):
            total += np.tensordot(weight[:, :, i, j], x[:, i : i + height, j : j + width], axes=1)
    return total + bias[:, None, None]


def pooling(x, kernel, stride, average):
    """Caffe's, without padding: sizes rounded up, windows cut at the border."""
    sides = [math.ceil((side - kernel) / stride) + 1 for side in x.shape[1:]]
    spare = [(n - 1) * stride + kernel - side for n, side in zip(sides, x.shape[1:], strict=True)]
    x = np.pad(x, ((0, 0), (0, spare[0]), (0, spare[1])), constant_values=np.nan)
    reach = [(n - 1) * stride + 1 for n in sides]
    windows = [
        x[:, i : i + reach[0] : stride, j : j + reach[1] : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return np.nanmean(windows, axis=0) if average else np.nanmax(windows, axis=0)


def forward(layers, weights, data, output):
    """Run a network given as plain dictionaries of Caffe layers (spec `networks.json`)."""
    blobs = {"data": data, "image": data}
    for layer in layers:
        bottom = [blobs[name] for name in layer["bottom"]]
        if layer["type"] == "Slice":
            point = layer["slice_point"]
            tops = [bottom[0][:point], bottom[0][point:]]
        elif layer["type"] == "Concat":
            tops = [np.concatenate(bottom)]
        elif layer["type"] == "ReLU":
            tops = [np.maximum(bottom[0], 0)]
        elif layer["type"] == "Pooling":
            tops = [pooling(bottom[0], layer["kernel_size"], layer["stride"], layer["pool"] == "AVE")]
        elif layer["type"] == "Convolution":
            weight, bias = (weights[f"{layer['name']}.{kind}"] for kind in ("weight", "bias"))
            tops = [convolution(bottom[0], weight, bias, layer["pad"])]
        else:
            raise AssertionError(layer["type"])
        blobs.update(zip(layer["top"], tops, strict=True))
    return blobs[output]


def enlarge_and_unpad(maps, pads, size):
    """x8, undo the padding: (C, 46, 46) to (C, h, w) of the scaled image; the background comes last."""
    large = imresize(np.moveaxis(maps, 0, 2), (368, 368), (8.0, 8.0), False)
    out = np.zeros((*size, len(maps)))
    out[..., -1] = 1.0
    rows, columns = (np.arange(size[axis]) + pads[axis] for axis in (0, 1))  # where the pixels lie in the box
    seen = [(place >= 0) & (place < 368) for place in (rows, columns)]
    out[np.ix_(*seen)] = large[np.ix_(rows[seen[0]], columns[seen[1]])]
    return out


def fuse(maps, pads, sizes, image_hw):
    """Mean over the scales of every scale's maps, each resized to the image: (C, H, W)."""
    total = 0.0
    for belief, pad, size in zip(maps, pads, sizes, strict=True):
        whole = enlarge_and_unpad(belief.astype(np.float64), pad, size)
        scales = tuple(image_hw[axis] / size[axis] for axis in (0, 1))
        total = total + np.moveaxis(imresize(whole, image_hw, scales, False), 2, 0)
    return total / len(maps)


def first_peaks(maps):
    """(C, 2) x, y, 0-based: the first maximum in column-major order."""
    places = [np.unravel_index(belief.T.argmax(), belief.T.shape) for belief in maps]
    return np.array(places)


def box_like(given, image, center, scale):
    """`padded`, with `undecided` pixels as in ``given``, another's uint8 box."""
    box, pads, size = padded(image, center, scale)
    if not np.array_equal(box, given):
        unsure = in_box(undecided(image.astype(np.float64), size, scale), pads, False)
        assert np.array_equal(box[~unsure], given[~unsure])
        assert np.abs(box - given).max() <= 2
        assert unsure.mean() < 0.25
    return given.astype(np.float64), pads, size


def procedure(image, center, scale0, layers, weights, output, multipliers=MULTIPLIERS, boxes=None):
    """The averaged maps (K+1, H, W) of one person; ``center`` is 1-based.

    ``boxes``: what another implementation shows its network, see `box_like`.
    """
    maps, pads, sizes = [], [], []
    for index, multiplier in enumerate(multipliers):
        if boxes is None:
            box, pad, size = padded(image, center, scale0 * multiplier)
        else:
            box, pad, size = box_like(boxes[index], image, center, scale0 * multiplier)
        maps.append(forward(layers, weights, net_input(box), output))
        pads.append(pad)
        sizes.append(size)
    return fuse(maps, pads, sizes, image.shape[:2])
