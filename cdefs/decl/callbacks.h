/* Python functions that C calls.  They return 0, or a negative errno and a message in *errmsg. */
extern "Python+C" {
int qv_py_snapshot(void *handle, int preserve, char **errmsg);
int qv_py_restore(void *handle, int version_id, char **errmsg);
int qv_py_hook(void *handle, int hook, char **errmsg);
int qv_py_load_complete(void *handle, int loaded, char **errmsg);
int qv_py_call(void *handle, int unused, char **errmsg);
int qv_py_roll_back(void *undo, int unused, char **errmsg);
void qv_py_timer(void *handle);
}
