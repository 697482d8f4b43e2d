/* JNI of com.google.ai.edge.litert.NativeNetwork, the stand-in's only native class. */
#include <jni.h>
#include <stdint.h>

#include "network.h"

#define METHOD(type, name) JNIEXPORT type JNICALL Java_com_google_ai_edge_litert_NativeNetwork_##name

static Network *network(jlong handle) { return (Network *)(intptr_t)handle; }

/* Throws LiteRtException when something failed. */
static void check(JNIEnv *env, const char *failure) {
  if (!failure) return;
  jclass type = (*env)->FindClass(env, "com/google/ai/edge/litert/LiteRtException");
  if (type) (*env)->ThrowNew(env, type, failure);
}

METHOD(jlong, open)(JNIEnv *env, jobject self, jstring library, jobject model, jint accelerator) {
  const char *failure, *path = (*env)->GetStringUTFChars(env, library, NULL);
  if (!path) return 0;
  Network *n = network_open(path, (*env)->GetDirectBufferAddress(env, model),
                            (size_t)(*env)->GetDirectBufferCapacity(env, model), accelerator, &failure);
  (*env)->ReleaseStringUTFChars(env, library, path);
  check(env, failure);
  return (jlong)(intptr_t)n;
}

METHOD(jint, index)(JNIEnv *env, jobject self, jlong handle, jboolean output, jstring name) {
  const char *text = (*env)->GetStringUTFChars(env, name, NULL);
  if (!text) return -1;
  jint found = network_index(network(handle), output ? OUTPUT : INPUT, text);
  (*env)->ReleaseStringUTFChars(env, name, text);
  return found;
}

METHOD(jlong, bytes)(JNIEnv *env, jobject self, jlong handle, jboolean output, jint index) {
  return (jlong)network_bytes(network(handle), output ? OUTPUT : INPUT, index);
}

METHOD(void, write)(JNIEnv *env, jobject self, jlong handle, jint input, jobject values) {
  check(env, network_write(network(handle), input, (*env)->GetDirectBufferAddress(env, values)));
}

METHOD(void, run)(JNIEnv *env, jobject self, jlong handle) { check(env, network_run(network(handle))); }

METHOD(void, read)(JNIEnv *env, jobject self, jlong handle, jint output, jobject values) {
  check(env, network_read(network(handle), output, (*env)->GetDirectBufferAddress(env, values)));
}

METHOD(void, close)(JNIEnv *env, jobject self, jlong handle) { network_close(network(handle)); }
