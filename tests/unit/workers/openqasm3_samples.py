"""OpenQASM 3 programs as people and exporters write them."""

FLAT = {
    "by hand": """
// A Bell pair.
OPENQASM 3.0;
include "stdgates.inc";

qubit[2] q;   // two qubits
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
""",
    "without a head": "qubit q; U(pi / 2, 0, π) q;",
    "crowded": 'OPENQASM 3;include"stdgates.inc";qubit[3]q;bit[3]c;h q;rz(-pi/2)q[0];cx q[0],q[1];c=measure q;measure q[2]->c[0];',
    "in the style of Cirq's exporter": """// Generated from a circuit

OPENQASM 3.0;
include "stdgates.inc";


// Qubits: [q(0), q(1), q(2)]
qubit[3] q;
bit[2] m_result;


h q[0];
rx(pi*0.25) q[1];
ry(pi*-0.7071067812) q[2];
u3(pi*0.5,pi*1.25,pi*0.75) q[0];

// Gate: CZ**0.5
rz(pi*0.25) q[0];
cx q[0],q[1];

m_result[0] = measure q[0];
m_result[1] = measure q[2];
""",
    "in the style of Braket's exporter": """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
bit[3] b;
qubit[3] q;
h q[0];
cx q[0], q[1];
rx(0.15) q[2];
rz(theta) q[2];
ccx q[0], q[1], q[2];
b[0] = measure q[0];
b[1] = measure q[1];
b[2] = measure q[2];
""",
    "in the style of tket's exporter": """OPENQASM 3.0;
include "stdgates.inc";

qubit[2] q;
qubit[1] anc;
bit[2] c;

rz(0.5*pi) q[0];
rx(3.999*pi) anc[0];
u3(0.5*pi,0.0*pi,1.5*pi) q[1];
cx q[0],anc[0];
barrier q[0],q[1],anc[0];
measure q[0] -> c[0];
measure q[1] -> c[1];
""",
    "in the style of Qiskit's exporter": """OPENQASM 3.0;
include "stdgates.inc";
input float[64] θ;
input float[64] phi;
bit[2] meas;
qubit[3] q;
gphase(pi/4);
U(pi/2, 0, pi) q[0];
rz(0.1) q[1];
rx(θ + 2*phi) q[2];
p(-θ/3) q[2];
delay[100.0ns] q[0];
delay[160dt] q[1];
barrier q[0], q[1], q[2];
reset q[2];
meas[0] = measure q[0];
meas[1] = measure q[1];
""",
    "on the qubits of a device": """OPENQASM 3.0;
include "stdgates.inc";
bit[2] c;
rz(pi/2) $3;
sx $3;
cz $3, $1;
barrier $1, $3;
c[0] = measure $3;
c[1] = measure $1;
""",
    "gates of its own": """OPENQASM 3.0;
include "stdgates.inc";
gate rzz(p0) a, b {
  cx a, b;
  rz(p0) b;
  cx a, b;
}
gate ecr _gate_q_0, _gate_q_1 {
  s _gate_q_0;
  sx _gate_q_1;
  cx _gate_q_0, _gate_q_1;
  x _gate_q_0;
}
gate turn(a, b) p { gphase(-a / 2); /* ; { */ U(a, b, -(a + b)) p; barrier p; }
gate still p { }
qubit[3] q;
bit[3] c;
rzz(pi/3) q[0], q[1];
rzz(0.25) q[1], q[2];
ecr q[2], q[0];
turn(0.1, pi) q[0];
still q;
ecr q[0:1], q[1:2];
c = measure q;
""",
    "old declarations": 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqreg Q[2];\ncreg C[2];\nCX Q[0], Q[1];\nmeasure Q -> C;\n',
    "single bits": 'include "stdgates.inc"; qubit a; qubit b; bit x0; cx a, b; x0 = measure b;',
    "a declaration that measures": 'include "stdgates.inc"; qubit[2] q; h q; bit[2] c = measure q; bit d = measure q[0];',
    "whole registers": (
        'include "stdgates.inc"; qubit[3] a; qubit[3] b; qubit one; h a; cx a, b; cx one, b; cz a[0:1], b[1:2]; h b[0:2:2];'
    ),
    "arithmetic": (
        'include "stdgates.inc"; qubit q; rz(1/2) q; rz(-7/2) q; rz(7/2.) q; rz(2*pi/3-1) q; rz(-(pi-1)*-2) q; rz(1-2-3) q;'
        "rz(8/2/2) q; rz(tau) q; rz(euler) q; rz(.5e1) q; rz(007) q; rz(1) q; rz(-0.0) q; p(2*(3+4)*5) q;"
    ),
    "comments everywhere": (
        '/* a */ OPENQASM 3.0 /* b */ ; // c\ninclude "stdgates.inc" /* d */ ;\nqubit /* e; */ [ /**/ 2 ] q /* f */ ;'
        'h // "quoted"\n q /* it\'s */ [ 0 ] ; rz( /* g */ pi /* h */ / /* i */ 2 ) q[1]; // the end'
    ),
    "broken over lines": 'include "stdgates.inc";\nqubit[2]\r\nq;\r\ncp(\r\n\tpi\r\n/\r\n2\r\n)\r\nq[\r\n0\r\n],\r\nq[1]\r\n;\r\n',
}
"""Flat programs, by whose manner they have."""

MIXED = {
    "conditions": """OPENQASM 3.0;
include "stdgates.inc";
bit[2] c;
qubit[2] q;
h q[0];
c[0] = measure q[0];
if (c[0]) {
  x q[1];
}
if (c == 2) { z q[0]; } else { y q[0]; }
if (c[1]) x q[0]; else h q[1];
c = measure q;
""",
    "loops": """include "stdgates.inc";
qubit[2] q;
bit c;
for int i in [0:3] { rx(0.5) q[0]; }
while (c) { h q[0]; c = measure q[0]; }
h q;
""",
    "modifiers": 'include "stdgates.inc"; qubit[3] q; ctrl @ x q[0],q[1]; inv @ s q[0]; ctrl(2) @ z q[0],q[1],q[2];',
    "gates of modified gates": (
        'include "stdgates.inc"; gate g(a) p, q { ctrl @ rz(a) p, q; } gate h2 p { h p; inv @ s p; } qubit[2] q;'
        "g(0.5) q[0], q[1]; h2 q; x q;"
    ),
    "constants of unusual size": (
        'include "stdgates.inc"; qubit q; rz(9007199254740993) q; rz(9223372036854775807+1) q; rz(18446744073709551616/2) q;'
        "rz(0.1+0.2) q; rz(10/3*3) q; rz(1e308*10) q; rz(- -2) q; rz(0/5) q; rz(1e-320) q;"
    ),
    "a loop whose variable is named like a constant": (
        'include "stdgates.inc"; qubit q; rz(pi) q; for int pi in [0:3] { rz(pi) q; } rz(pi) q; rz(pi/2) q;'
    ),
    "phases under modifiers": 'include "stdgates.inc"; qubit[2] q; ctrl @ gphase(pi/2) q[0]; inv @ gphase(1); h q;',
    "aliases": 'include "stdgates.inc"; qubit[4] q; let odd = q[1:2:3]; h odd; let all = odd ++ q[0:2:2]; h all[2];',
    "parts of registers": 'include "stdgates.inc"; qubit[4] q; h q[{0, 2}]; h q[-1]; h q[:]; h q[2:]; h q[0x1]; h q[1 + 1];',
    "device qubits in unusual places": 'include "stdgates.inc"; bit c; inv @ s $4; x $2; if (c) { x $7; } h $5; c = measure $9;',
    "numbers written otherwise": 'include "stdgates.inc"; qubit[2] q;rz(0x1F) q[0]; rz(1_000) q[0]; rz(0b1) q[1];delay[5µs] q[0];',
    "a box": 'include "stdgates.inc"; qubit[2] q; box[100ns] { x q[0]; } h q[0];',
    "trailing commas": 'include "stdgates.inc"; qubit[2] q; rz(0.5,) q[0]; cx q[0], q[1],;',
}
"""Programs of which some statements need the reference parser."""
