#include "textflag.h"

// func handle()
TEXT ·handle(SB), NOSPLIT|NOFRAME, $0-0
	MOVW ·timer(SB), R0
	MOVD $0, R1             // from now on
	MOVD $·limit(SB), R2
	MOVD $0, R3
	MOVD $110, R8           // timer_settime
	SVC
	RET                     // to what the kernel has for it

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB), NOSPLIT, $0-16
	MOVD $·handle(SB), R0
	MOVD R0, handler+0(FP)
	MOVD $0, restorer+8(FP)
	RET
