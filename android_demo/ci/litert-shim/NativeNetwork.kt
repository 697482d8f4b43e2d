package com.google.ai.edge.litert

import java.nio.ByteBuffer

/** `ci/native/bridge.c`. LiteRT reads [model] as long as the network is open, so it is held here. */
internal class NativeNetwork(private val model: ByteBuffer, accelerator: Int) : AutoCloseable {
    private var handle = open(LIBRARY, model, accelerator)

    fun index(output: Boolean, name: String) = index(handle, output, name)
    fun bytes(output: Boolean, index: Int) = bytes(handle, output, index)
    fun write(input: Int, values: ByteBuffer) = write(handle, input, values)
    fun run() = run(handle)
    fun read(output: Int, values: ByteBuffer) = read(handle, output, values)

    override fun close() {
        close(handle)
        handle = 0
    }

    private external fun open(library: String, model: ByteBuffer, accelerator: Int): Long
    private external fun index(handle: Long, output: Boolean, name: String): Int
    private external fun bytes(handle: Long, output: Boolean, index: Int): Long
    private external fun write(handle: Long, input: Int, values: ByteBuffer)
    private external fun run(handle: Long)
    private external fun read(handle: Long, output: Int, values: ByteBuffer)
    private external fun close(handle: Long)

    private companion object {
        /** On a desktop a file, in the APK a library beside the bridge. */
        val LIBRARY: String = System.getProperty("pockethdr.litert") ?: "liblitert-lm.so"

        init {
            System.getProperty("pockethdr.bridge")?.let { System.load(it) } ?: System.loadLibrary("pockethdr_bridge")
        }
    }
}
