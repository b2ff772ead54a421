/* Well-known classifiers with random weights, for measuring: as exporters write them, BatchNorms folded into convolutions. */
#ifndef ONP_TESTS_SUPPORT_ARCHITECTURES_H
#define ONP_TESTS_SUPPORT_ARCHITECTURES_H

#include <stddef.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/nn/network.h"

enum architecture {
    ARCHITECTURE_RESNET18,     /* He et al., arXiv 1512.03385; 32x32: stem of 3x3, no pooling */
    ARCHITECTURE_VGG16,        /* Simonyan and Zisserman, arXiv 1409.1556; 32x32: one linear layer */
    ARCHITECTURE_RESNET50,     /* 224x224, the stride in the 3x3 convolution */
    ARCHITECTURE_MOBILENET_V2, /* Sandler et al., arXiv 1801.04381; 224x224 */
    ARCHITECTURES
};

const char *architecture_name(enum architecture architecture);
/* Pixels along a side. */
size_t architecture_size(enum architecture architecture);
/* He's weights, drawn from rng. network_free(). */
enum status architecture_new(enum architecture architecture, struct rng *rng, struct network **out,
                             struct error *error);

#endif
