#include "textflag.h"

// func handle()
TEXT ·handle(SB), NOSPLIT|NOFRAME, $0-0
	MOVL ·timer(SB), DI
	XORL SI, SI             // from now on
	LEAQ ·limit(SB), DX
	XORL R10, R10
	MOVL $223, AX           // timer_settime
	SYSCALL
	RET

// func restore()
TEXT ·restore(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $15, AX            // rt_sigreturn
	SYSCALL
	INT $3

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB), NOSPLIT, $0-16
	LEAQ ·handle(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ ·restore(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
