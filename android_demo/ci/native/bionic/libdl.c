/* Names to link against; the phone has the real ones. */
void *dlopen(const char *path, int flags) { (void)path; (void)flags; return 0; }
void *dlsym(void *library, const char *name) { (void)library; (void)name; return 0; }
