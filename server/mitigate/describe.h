/* What the files that describe a model share. */
#ifndef ONP_SERVER_MITIGATE_DESCRIBE_H
#define ONP_SERVER_MITIGATE_DESCRIBE_H

#include "server/graph/units.h"
#include "server/onnx/onnx_model.h"

/* Reads a model file and finds its units; both are the caller's. */
enum status describe_load(const char *path, struct onnx_model **model, struct unit_map **units, struct error *error);

#endif
