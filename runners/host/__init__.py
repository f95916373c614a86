"""The machine: its cores, memory, GPUs, ports and processes, and what of them is in use.

It reads and reserves; it starts and stops no server. Public are `cores`, `machine`, `cgroup`, `cpu_meter`, `gpu`,
`ports`, `process_table` and `samples`.
"""
