#!/bin/sh
# torchvision's classifiers, exported with random weights, one after the other: loaded and run, their logits compared with ONNX
# Runtime's; their units counted; random masks folded into the file, which ONNX Runtime runs again; the gradient of the input checked.
#
# usage: networks.sh BUILD [NAME ...]
#
# Needs python3-torchvision and python3-onnx of Debian, and onnxruntime-node in $ONP_ORT/node_modules (npm install
# onnxruntime-node); without it the logits are compared with PyTorch's. Last line: N passed, N failed, N skipped.
set -u
here=$(dirname "$0")
build=$1
shift
folder=$build/networks
opset=${ONP_OPSET:-13}
all="resnet18 mobilenet_v2 squeezenet1_1 shufflenet_v2_x1_0 efficientnet_b0 densenet121 googlenet resnet50
    mobilenet_v3_small mobilenet_v3_large mnasnet1_0 regnet_y_400mf regnet_x_400mf inception_v3 convnext_tiny vit_b_16 swin_t
    alexnet resnext50_32x4d wide_resnet50_2 vgg16 vgg16_bn"
# shellcheck disable=SC2086 # the list is words
[ $# -gt 0 ] || set -- $all

if ! /usr/bin/python3 -c 'import torchvision' 2>/dev/null; then
    printf 'skipped: no python3-torchvision\n0 passed, 0 failed, %d skipped\n' $#
    exit 0
fi
ort=
if [ -n "${ONP_ORT:-}" ] && [ -d "$ONP_ORT/node_modules/onnxruntime-node" ]; then
    ort=$here/ort.js
else
    printf 'skipped: ONNX Runtime (no onnxruntime-node in ONP_ORT); compared with PyTorch alone\n'
fi

passed=0 failed=0
check() {
    "$@" && return 0
    good=0
}
for name in "$@"; do
    good=1
    rm -rf "$folder"
    check /usr/bin/python3 -W ignore "$here/torchvision.py" "$folder" --opset "$opset" "$name" 2>/dev/null
    at=$folder/$name
    if [ -n "$ort" ] && [ $good = 1 ]; then
        printf '        %s: PyTorch from ONNX Runtime: ' "$name"
        check node "$ort" "$at/model.onnx" "$at/input_0.pb" "$at/output_0.pb"
    fi
    [ $good = 0 ] || check "$build/tests/conformance/run" --tolerance 1e-4 "$folder"
    [ $good = 0 ] || check "$build/tests/conformance/units" --tolerance 1e-4 "$at"
    if [ -n "$ort" ] && [ $good = 1 ]; then
        printf '        %s: masked here from folded in ONNX Runtime: ' "$name"
        check node "$ort" "$at/folded.onnx" "$at/input_0.pb" "$at/folded.pb"
    fi
    if [ $good = 1 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
rm -rf "$folder"
printf '%d passed, %d failed, 0 skipped\n' $passed $failed
[ $failed -eq 0 ]
