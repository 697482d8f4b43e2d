package org.pockethdr.core

/** Something the user can mend. The message is a sentence that is shown as it is. */
class PocketError(message: String, cause: Throwable? = null) : Exception(message, cause)
