"""status.py plain|secretmem: does `tokenfs status --json` tell what Debian 12's kernel offers?"""
import json
import subprocess
import sys

mode, = sys.argv[1:]
status = json.loads(subprocess.run(["tokenfs", "status", "--json"], check=True, stdout=subprocess.PIPE).stdout)
protections = {p["name"]: p for p in status["protections"]}
wrong = []


def expect(what, got, want):
    if got != want:
        wrong.append(f"{what} is {got!r}, and should be {want!r}")


expect("format_version", status["format_version"], 1)
expect("mmap_shared", status["content"]["mmap_shared"], False)  # Linux 6.6 and later
expect("secretmem", protections["secretmem"]["active"], mode == "secretmem")
if not protections["secretmem"]["detail"]:
    wrong.append("secretmem comes without a reason")
for name in ("keys_locked", "slots_locked", "aes_instructions", "swap_absent", "closed_beneath"):
    if not protections[name]["active"]:
        wrong.append(f"{name} is not active: {protections[name]['detail']}")
for process in status["processes"]:
    if not process["protections"]:
        wrong.append(f"nothing protects the {process['role']}")
    for p in process["protections"]:
        wanted = ("core_dumps_off", "ptrace_off") + (("seccomp", "no_new_privs") if process["role"] == "worker" else ())
        if p["name"] in wanted and not p["active"]:
            wrong.append(f"{p['name']} of the {process['role']} is not active: {p['detail']}")
if status["memory"]["pss"] <= 0 or status["memory"]["locked"] <= 0:
    wrong.append(f"memory is {status['memory']!r}")
print(json.dumps(status, indent=1))
sys.exit("\n".join(wrong) or 0)
