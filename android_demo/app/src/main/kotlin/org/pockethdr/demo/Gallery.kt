package org.pockethdr.demo

import android.content.ContentValues
import android.content.Context
import android.os.Build
import android.provider.MediaStore
import org.pockethdr.core.PocketError
import java.io.OutputStream

/** Before Android 10 an app needs the user's leave to add to the gallery. */
val NEEDS_STORAGE_PERMISSION = Build.VERSION.SDK_INT < Build.VERSION_CODES.Q

/** Adds a file to Pictures/PocketHDR; others see it only once it is whole. */
fun saveToGallery(context: Context, name: String, type: String, write: (OutputStream) -> Unit) {
    val resolver = context.contentResolver
    val values = ContentValues().apply {
        put(MediaStore.MediaColumns.DISPLAY_NAME, name)
        put(MediaStore.MediaColumns.MIME_TYPE, type)
        if (!NEEDS_STORAGE_PERMISSION) {
            put(MediaStore.MediaColumns.RELATIVE_PATH, "Pictures/PocketHDR")
            put(MediaStore.MediaColumns.IS_PENDING, 1)
        }
    }
    val uri = resolver.insert(MediaStore.Images.Media.EXTERNAL_CONTENT_URI, values)
        ?: throw PocketError("The gallery did not accept the picture.")
    try {
        val out = resolver.openOutputStream(uri) ?: throw PocketError("The gallery cannot be written to.")
        out.use(write)
    } catch (failure: Exception) {
        resolver.delete(uri, null, null)
        throw failure
    }
    if (!NEEDS_STORAGE_PERMISSION) {
        val finished = ContentValues().apply { put(MediaStore.MediaColumns.IS_PENDING, 0) }
        resolver.update(uri, finished, null, null)
    }
}
