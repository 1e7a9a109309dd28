package scan

const vectorSet = 0x202 // NT_X86_XSTATE
