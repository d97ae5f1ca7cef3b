"""The banks of a world: one interface, one class per kind of bank."""

from scenarios.banks.airstar import AIRSTAR, AirstarInWorld
from scenarios.banks.airstar import KILLS as AIRSTAR_KILLS
from scenarios.banks.bank import BankInWorld, DeathTraps, Life, Site, Tell
from scenarios.banks.places import InMemory, OnLoopback, Places
from scenarios.banks.sockets import KILLS as SOCKET_KILLS
from scenarios.banks.sockets import SOCKET_BANKS, WHOLE_LINES, SocketBankInWorld

KILL_POINTS = AIRSTAR_KILLS | SOCKET_KILLS
"""Where a core may be killed, by scenario name -> the message on its line."""

__all__ = ["AIRSTAR", "KILL_POINTS", "SOCKET_BANKS", "WHOLE_LINES", "AirstarInWorld", "BankInWorld", "DeathTraps",
           "InMemory", "Life", "OnLoopback", "Places", "Site", "SocketBankInWorld", "Tell"]
