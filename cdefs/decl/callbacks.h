/* What C asks of Python; an int is 0, or a negative errno with a sentence in *why. */
extern "Python+C" {
    int qv_py_snapshot(void *handle, int keep, char **why);
    int qv_py_restore(void *handle, int version_id, char **why);
    int qv_py_hook(void *handle, int hook, char **why);
    int qv_py_call(void *handle, int unused, char **why);
    int qv_py_roll_back(void *undo, int unused, char **why);
    void qv_py_timer(void *handle);
}
