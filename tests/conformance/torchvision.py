#!/usr/bin/python3
"""Exports torchvision's classifiers with random weights, each with an input and the logits that PyTorch gives for it.

usage: torchvision.py FOLDER [--opset N] [NAME ...]

Writes FOLDER/NAME/{model.onnx,input_0.pb,output_0.pb}, the layout that the conformance runner reads, and gradient_0.pb, the
gradient of the sum of the last logits by the input:
    build/tests/conformance/run --tolerance 1e-4 FOLDER
Needs Debian's python3-torchvision (and python3-onnx). Without names it goes through all of NETWORKS.
"""
import os
import sys

# The script shares its name with the package.
sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]

import numpy  # noqa: E402
import onnx.numpy_helper  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

NETWORKS = """resnet18 mobilenet_v2 squeezenet1_1 shufflenet_v2_x1_0 efficientnet_b0 densenet121 googlenet resnet50
mobilenet_v3_small mobilenet_v3_large mnasnet1_0 regnet_y_400mf regnet_x_400mf inception_v3 convnext_tiny vit_b_16 swin_t
alexnet resnext50_32x4d wide_resnet50_2 vgg16 vgg16_bn""".split()


def randomize(model, x):
    """Weights and statistics as after training: every signal about as large as its layer expects, so that the logits depend on
    the input, and every BatchNormalization and every head does something."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, torch.nn.Linear) and not module.weight.any():
            module.weight.data.normal_(0, 0.02)  # a head that starts at zero would hide everything before it
    for module in norms:
        module.weight.data.uniform_(0.8, 1.25)
        module.bias.data.normal_(0, 0.1)
        module.momentum = 1.0
    if norms:  # the statistics of a batch become those of the file
        model.train()
        model(x)
        model.eval()
    for module in norms:
        module.momentum = 0.1
        module.running_mean.add_(torch.randn_like(module.running_mean) * 0.1 * module.running_var.sqrt())
        module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.8, 1.25))


def export(name, folder, opset):
    torch.manual_seed(1)
    # A transformer's fused fast path cannot be exported; the parameters' gradients switch it off.
    keywords = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if name in ("googlenet", "inception_v3"):
        keywords["transform_input"] = True
    model = getattr(torchvision.models, name)(weights=None, **keywords).eval()
    size = 299 if name == "inception_v3" else 224
    with torch.no_grad():
        randomize(model, torch.randn(4, 3, size, size))
    x = torch.randn(2, 3, size, size)
    where = os.path.join(folder, name)
    os.makedirs(where, exist_ok=True)
    point = x.clone().requires_grad_()
    logits = model(point)
    gradient, = torch.autograd.grad(logits[:, -1].sum(), point)
    logits = logits.detach()
    axes = {"input": {0: "N"}, "logits": {0: "N"}}
    torch.onnx.export(model, x, os.path.join(where, "model.onnx"), opset_version=opset, input_names=["input"],
                      output_names=["logits"], dynamic_axes=axes)
    for file, array in (("input_0.pb", x), ("output_0.pb", logits), ("gradient_0.pb", gradient)):
        with open(os.path.join(where, file), "wb") as out:
            out.write(onnx.numpy_helper.from_array(numpy.ascontiguousarray(array.numpy())).SerializeToString())


def main():
    arguments = sys.argv[1:]
    opset = 13
    if "--opset" in arguments:
        at = arguments.index("--opset")
        opset = int(arguments[at + 1])
        del arguments[at:at + 2]
    if not arguments:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    failed = 0
    for name in arguments[1:] or NETWORKS:
        try:
            export(name, arguments[0], opset)
            print(name, "exported", flush=True)
        except Exception as error:  # what an exporter refuses is a result, not an end
            failed += 1
            print(name, "not exported:", str(error).splitlines()[0] if str(error) else repr(error), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
