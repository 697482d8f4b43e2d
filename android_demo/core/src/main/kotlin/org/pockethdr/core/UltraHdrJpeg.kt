package org.pockethdr.core

import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.Locale

/** Pixels to a JPEG file and back: `Bitmap` on Android, ImageIO on a desktop. */
interface JpegCodec {
    fun encode(pixels: Pixels): ByteArray

    fun decode(jpeg: ByteArray): Pixels
}

/**
 * An Ultra HDR file: an SDR JPEG that any viewer shows, and behind it the gain map, a second JPEG.
 *
 * XMP in both names them and their range ("Ultra HDR Image Format v1.1"), and a multi-picture segment
 * (CIPA DC-007) says where the second begins. Written here, so that every Android version can save it.
 */
object UltraHdrJpeg {
    /**
     * The tone-mapped picture with the map from it to the linear one, turned to be seen.
     *
     * The map starts from the JPEG and not from what went into it: in the dark one code is a twentieth
     * of the light, and coding moves it by more.
     */
    fun encode(image: HdrImage, toneMap: ToneMap, orientation: Int, jpeg: JpegCodec): ByteArray {
        val base = jpeg.encode(upright(toneMap.apply(), orientation))
        val shown = turnedBack(jpeg.decode(base), orientation)
        val map = GainMap.of(image, shown, toneMap.middleGain).upright(orientation)
        return container(base, jpeg.encode(map.pixels), map)
    }

    internal fun container(base: ByteArray, gain: ByteArray, map: GainMap): ByteArray {
        val second = withSegments(gain, segment(APP1, xmp(gainMapXmp(map))))
        val xmp = segment(APP1, xmp(primaryXmp(second.size)))
        // Offsets count from the TIFF header inside the multi-picture segment, behind its own name.
        val header = insertion(base) + xmp.size + SEGMENT_HEADER + MPF_NAME.size
        val first = base.size + xmp.size + SEGMENT_HEADER + MPF_SIZE
        val index = segment(APP2, multiPicture(first, second.size, first - header))
        return withSegments(base, xmp + index) + second
    }

    private const val APP0 = 0xe0
    private const val APP1 = 0xe1
    private const val APP2 = 0xe2
    private const val SEGMENT_HEADER = 4
    private val MPF_NAME = "MPF\u0000".toByteArray(Charsets.US_ASCII)
    private const val MPF_SIZE = 4 + 8 + 2 + 3 * 12 + 4 + 2 * 16

    private fun segment(marker: Int, body: ByteArray): ByteArray = ByteBuffer.allocate(body.size + SEGMENT_HEADER)
        .put(0xff.toByte()).put(marker.toByte()).putShort((body.size + 2).toShort()).put(body).array()

    /** Where our segments belong: behind the start of image and the JFIF segment. */
    private fun insertion(jpeg: ByteArray): Int {
        val bytes = ByteBuffer.wrap(jpeg)
        require(jpeg.size > 6 && bytes.getShort(0) == 0xffd8.toShort()) { "the encoder returned no JPEG" }
        val marker = bytes.getShort(2).toInt() and 0xffff
        return if (marker == 0xff00 + APP0) 4 + (bytes.getShort(4).toInt() and 0xffff) else 2
    }

    private fun withSegments(jpeg: ByteArray, segments: ByteArray): ByteArray {
        val at = insertion(jpeg)
        return ByteArrayOutputStream(jpeg.size + segments.size).apply {
            write(jpeg, 0, at)
            write(segments)
            write(jpeg, at, jpeg.size - at)
        }.toByteArray()
    }

    private fun multiPicture(first: Int, second: Int, offset: Int): ByteArray {
        val out = ByteBuffer.allocate(MPF_SIZE).put(MPF_NAME)
        out.put("MM\u0000*".toByteArray(Charsets.US_ASCII)).putInt(8).putShort(3)
        out.entry(tag = 0xb000, type = 7, count = 4).put("0100".toByteArray(Charsets.US_ASCII))
        out.entry(tag = 0xb001, type = 4, count = 1).putInt(2)
        out.entry(tag = 0xb002, type = 7, count = 32).putInt(8 + 2 + 3 * 12 + 4)
        out.putInt(0)
        out.picture(attributes = 0x030000, size = first, offset = 0)
        out.picture(attributes = 0, size = second, offset = offset)
        return out.array()
    }

    private fun ByteBuffer.entry(tag: Int, type: Int, count: Int): ByteBuffer =
        putShort(tag.toShort()).putShort(type.toShort()).putInt(count)

    private fun ByteBuffer.picture(attributes: Int, size: Int, offset: Int): ByteBuffer =
        putInt(attributes).putInt(size).putInt(offset).putInt(0)

    private fun xmp(description: String): ByteArray = (
        "http://ns.adobe.com/xap/1.0/\u0000" +
            """<x:xmpmeta xmlns:x="adobe:ns:meta/">""" +
            """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">""" +
            """<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" """ +
            "$description</rdf:RDF></x:xmpmeta>"
        ).toByteArray(Charsets.UTF_8)

    private fun primaryXmp(gainMapBytes: Int) =
        """xmlns:Container="http://ns.google.com/photos/1.0/container/" """ +
            """xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><Container:Directory><rdf:Seq>""" +
            """<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/>""" +
            """</rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" """ +
            """Item:Mime="image/jpeg" Item:Length="$gainMapBytes"/></rdf:li>""" +
            "</rdf:Seq></Container:Directory></rdf:Description>"

    private fun gainMapXmp(map: GainMap): String {
        val offset = GainMap.OFFSET.text()
        return """hdrgm:GainMapMin="0" hdrgm:GainMapMax="${map.maxStops.text()}" """ +
            """hdrgm:Gamma="${GainMap.GAMMA.text()}" hdrgm:OffsetSDR="$offset" hdrgm:OffsetHDR="$offset" hdrgm:HDRCapacityMin="0" """ +
            """hdrgm:HDRCapacityMax="${map.maxStops.text()}" hdrgm:BaseRenditionIsHDR="False"/>"""
    }

    private fun Float.text() = String.format(Locale.ROOT, "%.6f", this)
}
