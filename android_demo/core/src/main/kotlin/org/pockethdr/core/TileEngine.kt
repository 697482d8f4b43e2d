package org.pockethdr.core

/** A loaded artifact: three tiles in, one out. Not safe to use from two threads at once. */
interface TileEngine : AutoCloseable {
    /** What really runs it, for instance `GPU`. */
    val accelerator: String

    /** Three H×W×6 inputs (short, mid, long) → linear HDR, H×W×3. */
    fun run(inputs: List<FloatArray>): FloatArray
}
