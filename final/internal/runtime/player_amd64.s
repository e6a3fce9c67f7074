//go:build linux

#include "go_asm.h"
#include "textflag.h"

// func playerCode() []byte
TEXT ·playerCode(SB), NOSPLIT, $0-24
	LEAQ ·player(SB), AX
	LEAQ ·playerEnd(SB), CX
	SUBQ AX, CX
	MOVQ AX, ret_base+0(FP)
	MOVQ CX, ret_len+8(FP)
	MOVQ CX, ret_cap+16(FP)
	RET

// The player. It runs as a program of its own, at another address than here, with nothing but
// what executable wrote in front of it and the stack that the kernel made. Below the stack
// pointer is its scratch space, as it handles no signals.
//
//	BX	the step
//	R12	the result of the step before
//	R13	the failure to report, and then the signal that means SIGKILL to a keeper
//
// A system call changes AX, CX and R11 alone.
TEXT ·player(SB), NOSPLIT|NOFRAME, $0-0
	// mmap(dataAddress, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, dataFD, 0)
	MOVL $const_dataAddress, DI
	MOVL $const_dataSizeAddress, SI
	MOVQ (SI), SI
	MOVL $3, DX
	MOVL $0x12, R10
	MOVL $const_dataFD, R8
	XORL R9, R9
	MOVL $const_sysMmap, AX
	SYSCALL
	MOVL $const_firstStepAddress, BX
	MOVQ (BX), BX
	XORL R12, R12
	XORL R13, R13

play:
	MOVQ    $const_previous, CX
	MOVQ    (playerStep_args+0)(BX), DI
	CMPQ    DI, CX
	CMOVQEQ R12, DI
	MOVQ    (playerStep_args+8)(BX), SI
	CMPQ    SI, CX
	CMOVQEQ R12, SI
	MOVQ    (playerStep_args+16)(BX), DX
	CMPQ    DX, CX
	CMOVQEQ R12, DX
	MOVQ    (playerStep_args+24)(BX), R10
	CMPQ    R10, CX
	CMOVQEQ R12, R10
	MOVQ    (playerStep_args+32)(BX), R8
	CMPQ    R8, CX
	CMOVQEQ R12, R8
	MOVQ    (playerStep_args+40)(BX), R9
	CMPQ    R9, CX
	CMOVQEQ R12, R9
	MOVQ    playerStep_number(BX), AX
	TESTQ   AX, AX
	JLT     own
	SYSCALL
	CMPQ    AX, $-4095
	JCC     failed
	MOVQ    AX, R12

next:
	ADDQ $playerStep__size, BX
	JMP  play

	// Of all the places where the command is not, one where it may not be run says most.
failed:
	NEGL    AX
	MOVL    AX, DX
	CMPQ    playerStep_number(BX), $const_sysExecve
	JNE     forgive
	CMPL    R13, $const_eacces
	CMOVLEQ R13, DX
	MOVL    DX, R13

forgive:
	CMPL AX, (playerStep_forgiven+0)(BX)
	JEQ  next
	CMPL AX, (playerStep_forgiven+4)(BX)
	JEQ  next
	CMPL AX, (playerStep_forgiven+8)(BX)
	JEQ  next
	MOVL DX, R13

	// Write the report, and wait until the parent has looked at this process: write(pipeFD,
	// report, 8), read(pipeFD, report, 1), exit_group(1).
end:
	MOVL playerStep_index(BX), AX
	MOVL AX, -16(SP)
	MOVL R13, -12(SP)
	MOVL $const_pipeFD, DI
	LEAQ -16(SP), SI
	MOVL $8, DX
	MOVL $const_sysWrite, AX
	SYSCALL
	MOVL $const_pipeFD, DI
	MOVL $1, DX
	MOVL $const_sysRead, AX
	SYSCALL
	MOVL $1, DI

exit:
	MOVL $const_sysExitGroup, AX
	SYSCALL
	JMP  exit

own:
	CMPQ AX, $const_opIsInside
	JEQ  isInside
	CMPQ AX, $const_opKeep
	JEQ  keep
	CMPQ AX, $const_opLeave
	JEQ  leave
	CMPQ AX, $const_opStay
	JEQ  stay
	JMP  end

isInside:
	CMPB (DI), $'/'
	JEQ  next
	MOVQ $-const_enoent, AX
	JMP  failed

	// write(pipeFD, report{Step: child}, 8), exit_group(0). The keeper finds the child, too.
leave:
	TESTQ R12, R12
	JEQ   next
	MOVQ  R12, -16(SP)
	MOVQ  R12, -24(SP)
	MOVL  $const_pipeFD, DI
	LEAQ  -16(SP), SI
	MOVL  $8, DX
	MOVL  $const_sysWrite, AX
	SYSCALL
	XORL  DI, DI
	JMP   exit

	// The keeper, for which SIGTERM means SIGKILL. Its child is the one that leave has left to it, if
	// there is one: its own has ended.
keep:
	TESTQ   R12, R12
	JEQ     next
	MOVQ    -24(SP), AX
	TESTQ   AX, AX
	CMOVQNE AX, R12
	MOVL    $const_sigterm, R13
	JMP     forget

	// The init.
stay:
	TESTQ R12, R12
	JEQ   next
	XORL  R13, R13

	// Forget everything: close_range(0, ~0, 0), munmap(dataAddress, size). Then the init lets the child
	// go on: kill(child, SIGUSR1).
forget:
	XORL  DI, DI
	MOVL  $-1, SI
	XORL  DX, DX
	MOVL  $const_sysCloseRange, AX
	SYSCALL
	MOVL  $const_dataAddress, DI
	MOVL  $const_dataSizeAddress, SI
	MOVQ  (SI), SI
	MOVL  $const_sysMunmap, AX
	SYSCALL
	TESTL R13, R13
	JNE   wait
	MOVL  $const_sigusr1, AX

	// kill(child, signal)
signal:
	MOVQ R12, DI
	MOVQ AX, SI
	MOVL $const_sysKill, AX
	SYSCALL

	// rt_sigtimedwait(all, nil, nil, 8)
wait:
	MOVQ $-1, -8(SP)
	LEAQ -8(SP), DI
	XORL SI, SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $const_sysSigtimedwait, AX
	SYSCALL
	CMPQ AX, $const_sigchld
	JEQ  reap
	TESTL R13, R13
	JEQ  signal
	CMPQ AX, R13
	JNE  wait
	MOVL $const_sigkill, AX
	JMP  signal

	// wait4(-1, status, WNOHANG, nil), until there is nothing left to reap
reap:
	MOVQ  $-1, DI
	LEAQ  -8(SP), SI
	MOVL  $1, DX
	XORL  R10, R10
	MOVL  $const_sysWait4, AX
	SYSCALL
	TESTQ AX, AX
	JLE   wait
	CMPQ  AX, R12
	JNE   reap

	// The child has ended: exit_group(its status)
	MOVL -8(SP), DI
	MOVL DI, AX
	SHRL $8, DI
	ANDL $0xff, DI
	ANDL $0x7f, AX
	JEQ  exit
	LEAL 128(AX), DI
	JMP  exit

TEXT ·playerEnd(SB), NOSPLIT|NOFRAME, $0-0
	RET
