/* What C asks of Python; an int is 0, or a negative errno with a sentence in *errmsg. */
extern "Python+C" {
int qv_py_snapshot(void *handle, int keep, char **errmsg);
int qv_py_restore(void *handle, int version_id, char **errmsg);
int qv_py_hook(void *handle, int hook, char **errmsg);
int qv_py_call(void *handle, int unused, char **errmsg);
int qv_py_roll_back(void *undo, int unused, char **errmsg);
void qv_py_timer(void *handle);
}
