//go:build linux

#include "go_asm.h"
#include "textflag.h"

// func playerCode() []byte
TEXT ·playerCode(SB), NOSPLIT, $0-24
	MOVD $·player(SB), R0
	MOVD $·playerEnd(SB), R1
	SUB  R0, R1
	MOVD R0, ret_base+0(FP)
	MOVD R1, ret_len+8(FP)
	MOVD R1, ret_cap+16(FP)
	RET

// The player: see player_amd64.s, which has the same steps in the same order.
//
//	R19	the step
//	R20	the result of the step before
//	R21	the failure to report, and then the signal that means SIGKILL to a keeper
//	R22	scratch space below the stack pointer
//	R23	previous
//
// A system call changes R0 alone.
TEXT ·player(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_dataAddress, R0
	MOVD $const_dataSizeAddress, R1
	MOVD (R1), R1
	MOVD $3, R2
	MOVD $0x12, R3
	MOVD $const_dataFD, R4
	MOVD $0, R5
	MOVD $const_sysMmap, R8
	SVC
	MOVD $const_firstStepAddress, R19
	MOVD (R19), R19
	MOVD $0, R20
	MOVW $0, R21
	MOVD RSP, R22
	SUB  $16, R22
	MOVD $const_previous, R23

play:
	MOVD (playerStep_args+0)(R19), R0
	CMP  R0, R23
	CSEL EQ, R20, R0, R0
	MOVD (playerStep_args+8)(R19), R1
	CMP  R1, R23
	CSEL EQ, R20, R1, R1
	MOVD (playerStep_args+16)(R19), R2
	CMP  R2, R23
	CSEL EQ, R20, R2, R2
	MOVD (playerStep_args+24)(R19), R3
	CMP  R3, R23
	CSEL EQ, R20, R3, R3
	MOVD (playerStep_args+32)(R19), R4
	CMP  R4, R23
	CSEL EQ, R20, R4, R4
	MOVD (playerStep_args+40)(R19), R5
	CMP  R5, R23
	CSEL EQ, R20, R5, R5
	MOVD playerStep_number(R19), R8
	TBNZ $63, R8, own
	SVC
	CMN  $4095, R0
	BHS  failed
	MOVD R0, R20

next:
	ADD $playerStep__size, R19
	B   play

failed:
	NEG  R0, R0
	MOVD R0, R1
	MOVD playerStep_number(R19), R2
	CMP  $const_sysExecve, R2
	BNE  forgive
	CMP  $const_eacces, R21
	CSEL EQ, R21, R1, R1
	MOVD R1, R21

forgive:
	MOVWU (playerStep_forgiven+0)(R19), R2
	CMP   R0, R2
	BEQ   next
	MOVWU (playerStep_forgiven+4)(R19), R2
	CMP   R0, R2
	BEQ   next
	MOVWU (playerStep_forgiven+8)(R19), R2
	CMP   R0, R2
	BEQ   next
	MOVD  R1, R21

end:
	MOVWU playerStep_index(R19), R0
	MOVW  R0, (R22)
	MOVW  R21, 4(R22)
	MOVD  $const_pipeFD, R0
	MOVD  R22, R1
	MOVD  $8, R2
	MOVD  $const_sysWrite, R8
	SVC
	MOVD  $const_pipeFD, R0
	MOVD  $1, R2
	MOVD  $const_sysRead, R8
	SVC
	MOVD  $1, R0

exit:
	MOVD $const_sysExitGroup, R8
	SVC
	B    exit

own:
	CMN $-const_opIsInside, R8
	BEQ isInside
	CMN $-const_opKeep, R8
	BEQ keep
	CMN $-const_opLeave, R8
	BEQ leave
	CMN $-const_opStay, R8
	BEQ stay
	B   end

isInside:
	MOVBU (R0), R1
	CMP   $'/', R1
	BEQ   next
	MOVD  $-const_enoent, R0
	B     failed

leave:
	CBZ  R20, next
	MOVD R20, (R22)
	MOVD R20, -8(R22)
	MOVD $const_pipeFD, R0
	MOVD R22, R1
	MOVD $8, R2
	MOVD $const_sysWrite, R8
	SVC
	MOVD $0, R0
	B    exit

keep:
	CBZ  R20, next
	MOVD -8(R22), R0
	CMP  $0, R0
	CSEL NE, R0, R20, R20
	MOVD $const_sigterm, R21
	B    forget

stay:
	CBZ  R20, next
	MOVD $0, R21

forget:
	MOVD $0, R0
	MOVD $0xffffffff, R1
	MOVD $0, R2
	MOVD $const_sysCloseRange, R8
	SVC
	MOVD $const_dataAddress, R0
	MOVD $const_dataSizeAddress, R1
	MOVD (R1), R1
	MOVD $const_sysMunmap, R8
	SVC
	CBNZ R21, wait
	MOVD $const_sigusr1, R0

signal:
	MOVD R0, R1
	MOVD R20, R0
	MOVD $const_sysKill, R8
	SVC

wait:
	MOVD $-1, R0
	MOVD R0, (R22)
	MOVD R22, R0
	MOVD $0, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $const_sysSigtimedwait, R8
	SVC
	CMP  $const_sigchld, R0
	BEQ  reap
	CBZ  R21, signal
	CMP  R0, R21
	BNE  wait
	MOVD $const_sigkill, R0
	B    signal

reap:
	MOVD $-1, R0
	MOVD R22, R1
	MOVD $1, R2
	MOVD $0, R3
	MOVD $const_sysWait4, R8
	SVC
	CMP  $0, R0
	BLE  wait
	CMP  R0, R20
	BNE  reap

	MOVWU (R22), R1
	LSR   $8, R1, R0
	AND   $0xff, R0
	AND   $0x7f, R1
	CBZ   R1, exit
	ADD   $128, R1, R0
	B     exit

TEXT ·playerEnd(SB), NOSPLIT|NOFRAME, $0-0
	RET
