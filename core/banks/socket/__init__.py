"""The broker's end of the socket protocol of CMB and CMBC: lines, exit servers, gateway."""
