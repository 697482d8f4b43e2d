/* Uses nothing of the C library but what is declared here, so that it can be built for Android without
 * an NDK. The calls are those of LiteRT 2.3 (litert/c/ in its sources); all return 0 for success. */
#include "network.h"

#include <stdint.h>

extern void *dlopen(const char *, int);
extern void *dlsym(void *, const char *);
extern void *calloc(size_t, size_t);
extern void free(void *);
extern void *memcpy(void *, const void *, size_t);
extern int strcmp(const char *, const char *);

enum { RTLD_NOW_HERE = 2, LOCK_READ = 0, LOCK_WRITE = 1 };

typedef void *Handle;
/* LiteRtRankedTensorType: element type, rank and flags, dimensions and strides. Passed on unread. */
typedef struct { int32_t words[18]; } TensorType;

/* One line for each function: its result is always a status. */
#define LITERT_FUNCTIONS(F)                                                                            \
  F(CreateEnvironment, (int, const void *, Handle *))                                                  \
  F(CreateModelFromBuffer, (Handle, const void *, size_t, Handle *))                                   \
  F(CreateOptions, (Handle *))                                                                         \
  F(SetOptionsHardwareAccelerators, (Handle, int))                                                     \
  F(CreateCompiledModel, (Handle, Handle, Handle, Handle *))                                           \
  F(GetModelSignature, (Handle, size_t, Handle *))                                                     \
  F(GetNumSignatureInputs, (Handle, size_t *))                                                         \
  F(GetNumSignatureOutputs, (Handle, size_t *))                                                        \
  F(GetSignatureInputName, (Handle, size_t, const char **))                                            \
  F(GetSignatureOutputName, (Handle, size_t, const char **))                                           \
  F(GetSignatureInputTensorByIndex, (Handle, size_t, Handle *))                                        \
  F(GetSignatureOutputTensorByIndex, (Handle, size_t, Handle *))                                       \
  F(GetRankedTensorType, (Handle, TensorType *))                                                       \
  F(GetCompiledModelInputBufferRequirements, (Handle, size_t, size_t, Handle *))                       \
  F(GetCompiledModelOutputBufferRequirements, (Handle, size_t, size_t, Handle *))                      \
  F(CreateManagedTensorBufferFromRequirements, (Handle, const TensorType *, Handle, Handle *))         \
  F(GetTensorBufferPackedSize, (Handle, size_t *))                                                     \
  F(LockTensorBuffer, (Handle, void **, int))                                                          \
  F(UnlockTensorBuffer, (Handle))                                                                      \
  F(RunCompiledModel, (Handle, size_t, size_t, Handle *, size_t, Handle *))

#define LITERT_DESTRUCTORS(F)                                                                          \
  F(DestroyTensorBuffer) F(DestroyCompiledModel) F(DestroyOptions) F(DestroyModel) F(DestroyEnvironment)

typedef struct {
#define DECLARE(name, parameters) int (*name) parameters;
  LITERT_FUNCTIONS(DECLARE)
#undef DECLARE
#define DECLARE(name) void (*name)(Handle);
  LITERT_DESTRUCTORS(DECLARE)
#undef DECLARE
} LiteRt;

typedef struct {
  size_t count;
  const char *names[MOST_TENSORS];
  Handle buffers[MOST_TENSORS];
  size_t bytes[MOST_TENSORS];
} Tensors;

struct Network {
  LiteRt lite;
  Handle environment, model, options, compiled;
  Tensors sides[2];
};

static const char *load(LiteRt *lite, const char *library);
static const char *compile(Network *n, const void *model, size_t bytes, int accelerator);
static const char *make_buffers(Network *n, enum Side side, Handle signature);

/* Ends the calling function with the name of the call that failed. */
#define TRY(call) do { if ((call) != 0) return #call; } while (0)

Network *network_open(const char *library, const void *model, size_t bytes, int accelerator,
                      const char **failure) {
  Network *n = calloc(1, sizeof *n);
  *failure = n ? load(&n->lite, library) : "out of memory";
  if (!*failure) *failure = compile(n, model, bytes, accelerator);
  if (!*failure) return n;
  network_close(n);
  return NULL;
}

int network_index(const Network *n, enum Side side, const char *name) {
  const Tensors *tensors = &n->sides[side];
  for (size_t i = 0; i < tensors->count; i++)
    if (strcmp(tensors->names[i], name) == 0) return (int)i;
  return -1;
}

size_t network_bytes(const Network *n, enum Side side, int index) { return n->sides[side].bytes[index]; }

const char *network_write(Network *n, int input, const void *values) {
  Tensors *tensors = &n->sides[INPUT];
  void *memory;
  TRY(n->lite.LockTensorBuffer(tensors->buffers[input], &memory, LOCK_WRITE));
  memcpy(memory, values, tensors->bytes[input]);
  TRY(n->lite.UnlockTensorBuffer(tensors->buffers[input]));
  return NULL;
}

const char *network_run(Network *n) {
  Tensors *in = &n->sides[INPUT], *out = &n->sides[OUTPUT];
  TRY(n->lite.RunCompiledModel(n->compiled, 0, in->count, in->buffers, out->count, out->buffers));
  return NULL;
}

const char *network_read(Network *n, int output, void *values) {
  Tensors *tensors = &n->sides[OUTPUT];
  void *memory;
  TRY(n->lite.LockTensorBuffer(tensors->buffers[output], &memory, LOCK_READ));
  memcpy(values, memory, tensors->bytes[output]);
  TRY(n->lite.UnlockTensorBuffer(tensors->buffers[output]));
  return NULL;
}

void network_close(Network *n) {
  if (!n) return;
  for (int side = INPUT; side <= OUTPUT; side++)
    for (size_t i = 0; i < n->sides[side].count; i++)
      if (n->sides[side].buffers[i]) n->lite.DestroyTensorBuffer(n->sides[side].buffers[i]);
  if (n->compiled) n->lite.DestroyCompiledModel(n->compiled);
  if (n->options) n->lite.DestroyOptions(n->options);
  if (n->model) n->lite.DestroyModel(n->model);
  if (n->environment) n->lite.DestroyEnvironment(n->environment);
  free(n);
}

static const char *load(LiteRt *lite, const char *library) {
  void *opened = dlopen(library, RTLD_NOW_HERE);
  if (!opened) return "the LiteRT library does not load";
#define FIND(name, ...)                                             \
  *(void **)&lite->name = dlsym(opened, "LiteRt" #name);            \
  if (!lite->name) return "the LiteRT library lacks LiteRt" #name;
  LITERT_FUNCTIONS(FIND)
  LITERT_DESTRUCTORS(FIND)
#undef FIND
  return NULL;
}

static const char *compile(Network *n, const void *model, size_t bytes, int accelerator) {
  LiteRt *lite = &n->lite;
  Handle signature;
  const char *failure;
  TRY(lite->CreateEnvironment(0, NULL, &n->environment));
  TRY(lite->CreateModelFromBuffer(n->environment, model, bytes, &n->model));
  TRY(lite->CreateOptions(&n->options));
  TRY(lite->SetOptionsHardwareAccelerators(n->options, accelerator));
  TRY(lite->CreateCompiledModel(n->environment, n->model, n->options, &n->compiled));
  TRY(lite->GetModelSignature(n->model, 0, &signature));
  failure = make_buffers(n, INPUT, signature);
  return failure ? failure : make_buffers(n, OUTPUT, signature);
}

static const char *make_buffers(Network *n, enum Side side, Handle signature) {
  LiteRt *lite = &n->lite;
  Tensors *tensors = &n->sides[side];
  int in = side == INPUT;
  size_t count;
  TRY((in ? lite->GetNumSignatureInputs : lite->GetNumSignatureOutputs)(signature, &count));
  if (count > MOST_TENSORS) return "the model has too many inputs or outputs";
  for (tensors->count = 0; tensors->count < count; tensors->count++) {
    size_t i = tensors->count;
    Handle tensor, needs;
    TensorType type;
    TRY((in ? lite->GetSignatureInputName : lite->GetSignatureOutputName)(signature, i, &tensors->names[i]));
    TRY((in ? lite->GetSignatureInputTensorByIndex
            : lite->GetSignatureOutputTensorByIndex)(signature, i, &tensor));
    TRY(lite->GetRankedTensorType(tensor, &type));
    TRY((in ? lite->GetCompiledModelInputBufferRequirements
            : lite->GetCompiledModelOutputBufferRequirements)(n->compiled, 0, i, &needs));
    TRY(lite->CreateManagedTensorBufferFromRequirements(n->environment, &type, needs, &tensors->buffers[i]));
    TRY(lite->GetTensorBufferPackedSize(tensors->buffers[i], &tensors->bytes[i]));
  }
  return NULL;
}
