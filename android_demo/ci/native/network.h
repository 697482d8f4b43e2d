/* A LiteRT network of up to MOST_TENSORS inputs and outputs, through LiteRT's C API. */
#ifndef POCKETHDR_NETWORK_H
#define POCKETHDR_NETWORK_H

#include <stddef.h>

enum { MOST_TENSORS = 8 };
enum Side { INPUT, OUTPUT };

typedef struct Network Network;

/* Opens `model`, which must stay where it is until network_close, with the runtime `library`.
 * `accelerator`: 1 CPU, 2 GPU, 4 NPU. NULL on failure; then `*failure` is what failed. */
Network *network_open(const char *library, const void *model, size_t bytes, int accelerator,
                      const char **failure);

/* The index of the input or output called `name` in the first signature, or -1. */
int network_index(const Network *network, enum Side side, const char *name);

size_t network_bytes(const Network *network, enum Side side, int index);

/* These return NULL, or what failed. */
const char *network_write(Network *network, int input, const void *values);
const char *network_run(Network *network);
const char *network_read(Network *network, int output, void *values);

void network_close(Network *network);

#endif
