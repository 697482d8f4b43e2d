package org.pockethdr.demo

import android.graphics.ImageFormat
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.util.Size
import org.pockethdr.core.PocketError

/** What the back camera can do, asked once. */
class CameraProperties(val id: String, val characteristics: CameraCharacteristics) {
    /** Shutter times in nanoseconds. */
    val times: LongRange = need(CameraCharacteristics.SENSOR_INFO_EXPOSURE_TIME_RANGE).let { it.lower..it.upper }
    val isos: IntRange = need(CameraCharacteristics.SENSOR_INFO_SENSITIVITY_RANGE).let { it.lower..it.upper }

    fun format(raw: Boolean) = if (raw) ImageFormat.RAW_SENSOR else ImageFormat.YUV_420_888

    /** The largest picture of the kind. */
    fun size(raw: Boolean): Size =
        need(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP).getOutputSizes(format(raw))
            ?.filter { raw || it.width.toLong() * it.height <= MOST_PIXELS }
            ?.maxByOrNull { it.width.toLong() * it.height }
            ?: throw PocketError("This camera gives no ${if (raw) "raw" else "YUV"} pictures.")

    /** How the sensor stands in the phone, as EXIF says it; the screen's own turn is not asked for. */
    fun exifOrientation(): Int = when (characteristics.get(CameraCharacteristics.SENSOR_ORIENTATION)) {
        90 -> 6
        180 -> 3
        270 -> 8
        else -> 1
    }

    private fun <T> need(key: CameraCharacteristics.Key<T>): T = characteristics.get(key) ?: throw NOT_BY_HAND

    companion object {
        // Twelve megapixels: more does not fit beside its HDR image in an app's memory.
        private const val MOST_PIXELS = 12_600_000L
        private val NOT_BY_HAND get() = PocketError(
            "The exposure of this phone's camera cannot be set by an app. Choose three photographs instead.",
        )

        fun ofBackCamera(manager: CameraManager): CameraProperties {
            val found = manager.cameraIdList.map { it to manager.getCameraCharacteristics(it) }
                .firstOrNull { (_, camera) -> camera.isBack() && camera.canBeSetByHand() }
            return found?.let { (id, camera) -> CameraProperties(id, camera) } ?: throw NOT_BY_HAND
        }

        private fun CameraCharacteristics.isBack() =
            get(CameraCharacteristics.LENS_FACING) == CameraCharacteristics.LENS_FACING_BACK

        private fun CameraCharacteristics.canBeSetByHand() =
            get(CameraCharacteristics.REQUEST_AVAILABLE_CAPABILITIES).orEmpty()
                .contains(CameraCharacteristics.REQUEST_AVAILABLE_CAPABILITIES_MANUAL_SENSOR)

        private fun IntArray?.orEmpty() = this ?: IntArray(0)
    }
}
